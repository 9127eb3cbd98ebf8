// The page of `aerogel serve`. Whatever models and users write goes in as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let models = [];

function headers() {
  const found = { "Content-Type": "application/json" };
  if ($("key").value) found.Authorization = "Bearer " + $("key").value;
  return found;
}

function complain(message) {
  $("error").textContent = message || "";
  $("error").hidden = !message;
}

async function ask(path, body, signal) {
  const options = { headers: headers(), signal };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  let said = answer.statusText;
  try {
    const value = await answer.json();
    said = (value.error && value.error.message) || value.error || value.message || said;
  } catch { /* no JSON: the status says it */ }
  throw new Error(answer.status + ": " + said);
}

function guarded(work) {
  return async (event) => {
    if (event && event.preventDefault) event.preventDefault();
    complain("");
    try { await work(); } catch (error) { if (error.name !== "AbortError") complain(error.message); }
  };
}

function make(kind, attributes, text) {
  const found = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  return found;
}

// Models and tabs.

let tab = "search";
const NEEDS = { search: ["embedding", "rank"], chat: ["generate"] };

function listModels() {
  const wanted = NEEDS[tab], before = $("model").value;
  const fitting = models.filter((one) => !wanted || wanted.some((task) => one.gives.includes(task)));
  $("model").replaceChildren(...fitting.map((one) => new Option(one.id, one.id, false, one.id === before)));
  if (wanted && models.length && !fitting.length) complain("None of the served models can do this.");
}

function show(name) {
  tab = name;
  history.replaceState(null, "", "#" + name);
  complain("");
  for (const one of document.querySelectorAll("main")) one.hidden = one.id !== name;
  for (const one of $("tabs").children) one.setAttribute("aria-selected", one.dataset.tab === name);
  listModels();
  if (name === "explain") explain();
}

const connect = guarded(async () => {
  models = (await (await ask("/info")).json()).models;
  show(tab);
});

// Search: the vectors of texts stay here, until they change.

const vectors = new Map();

async function embedded(texts, model) {
  const missing = [...new Set(texts)].filter((text) => !vectors.has(model + "\n" + text));
  for (let i = 0; i < missing.length; i += 64) {
    const part = missing.slice(i, i + 64);
    const rows = await (await ask("/embed", { inputs: part, model })).json();
    part.forEach((text, k) => vectors.set(model + "\n" + text, rows[k]));
  }
  return texts.map((text) => vectors.get(model + "\n" + text));
}

const search = guarded(async () => {
  const texts = $("texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const query = $("query").value, model = $("model").value, start = performance.now();
  if (!texts.length || !model) return;
  const chosen = models.find((one) => one.id === model);
  let scores;
  if (chosen.gives.includes("embedding")) {
    const [q, ...rows] = await embedded([query, ...texts], model);
    scores = rows.map((row) => row.reduce((sum, value, i) => sum + value * q[i], 0));
  } else {
    scores = new Array(texts.length);
    for (const one of await (await ask("/rerank", { query, texts, model })).json()) scores[one.index] = one.score;
  }
  $("search-time").textContent = (performance.now() - start).toFixed(0) + " ms, " + texts.length + " texts";
  const order = texts.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
  $("found").replaceChildren(...order.map((i) => {
    const line = document.createElement("li"), bar = document.createElement("i");
    const score = document.createElement("code"), text = document.createElement("span");
    bar.style.width = 100 * Math.min(1, Math.max(0, scores[i])) + "%";
    score.textContent = scores[i].toFixed(3);
    text.textContent = texts[i];
    line.append(text, score, bar);
    return line;
  }));
});

// Chat: a stream of events, read as it comes.

let talk = [], running = null;

function bubble(role, text) {
  const found = document.createElement("p");
  found.className = role;
  found.textContent = text;
  $("talk").querySelector(".empty")?.remove();
  $("talk").append(found);
  found.scrollIntoView({ block: "nearest" });
  return found;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

const send = guarded(async () => {
  const said = $("said").value.trim();
  if (!said || running || !$("model").value) return;
  $("said").value = "";
  talk.push({ role: "user", content: said });
  bubble("user", said);
  const place = bubble("assistant", "\u2026"), start = performance.now();
  let text = "";
  running = new AbortController();
  $("stop").disabled = false;
  try {
    const body = {
      model: $("model").value, messages: talk, stream: true, stream_options: { include_usage: true },
      temperature: Number($("temperature").value),
    };
    for await (const part of events(await ask("/v1/chat/completions", body, running.signal))) {
      if (part.error) throw new Error(part.error.message);
      for (const choice of part.choices) text += choice.delta.content || "";
      place.textContent = text;
      place.scrollIntoView({ block: "nearest" });
      if (part.usage) {
        const count = part.usage.completion_tokens, seconds = (performance.now() - start) / 1e3;
        $("chat-time").textContent = count + " tokens, " + (count / seconds).toFixed(1) + " a second";
      }
    }
  } finally {
    if (text) talk.push({ role: "assistant", content: text });
    else { talk.pop(); place.remove(); }
    running = null;
    $("stop").disabled = true;
  }
});

// Metrics: two lines that move, and the figures of now.

const past = [];

function figures(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_]+)(?:\{[^}]*\})? (\S+)$/.exec(line);
    if (match) found[match[1]] = (found[match[1]] || 0) + Number(match[2]);
  }
  return found;
}

function curve(place, values) {
  const width = 600, height = 180, low = height - 8, most = Math.max(...values, 1e-9);
  const at = values.map((v, i) => [(width * (i + 60 - values.length)) / 59, low - (v / most) * (low - 30)]);
  const line = at.map((point) => point.join(",")).join(" ");
  const said = most < 0.01 ? "0" : most.toFixed(most < 10 ? 1 : 0);
  place.replaceChildren(
    make("line", { x1: 0, x2: width, y1: 30, y2: 30 }), make("line", { x1: 0, x2: width, y1: low, y2: low }),
    make("text", { x: 8, y: 22 }, said),
    make("polygon", { points: `${at[0][0]},${low} ${line} ${width},${low}` }), make("polyline", { points: line }),
  );
}

async function measure() {
  if (tab !== "metrics" || document.hidden) return;
  const now = figures(await (await ask("/metrics")).text());
  now.at = performance.now() / 1e3;
  past.push(now);
  if (past.length > 61) past.shift();
  const speeds = past.slice(1).map((one, i) => {
    const before = past[i];
    return (one.te_batch_next_tokens_sum - before.te_batch_next_tokens_sum) / (one.at - before.at);
  });
  curve($("speed"), speeds.length ? speeds : [0]);
  curve($("queue"), past.slice(-60).map((one) => one.te_queue_size || 0));
  const mean = (name) => (now[name + "_count"] ? now[name + "_sum"] / now[name + "_count"] : 0);
  const time = (seconds) => (seconds < 1 ? (1e3 * seconds).toFixed(1) + " ms" : seconds.toFixed(2) + " s");
  const rows = [
    ["Requests answered", now.te_request_success || 0],
    ["Requests not answered", now.te_request_failure || 0],
    ["Mean time of a request", time(mean("te_request_duration"))],
    ["Of that, waiting", time(mean("te_request_queue_duration"))],
    ["Tokens a step", mean("te_batch_next_tokens").toFixed(1)],
    ["Time of a step", time(mean("aerogel_step_seconds"))],
    ["Tokens a second now", (speeds.at(-1) || 0).toFixed(0)],
    ["Weights in memory", ((now.aerogel_model_bytes || 0) / 1e6).toFixed(1) + " MB"],
    ["Keys and values", ((now.aerogel_kv_bytes || 0) / 1e6).toFixed(1) + " MB"],
    ["The process", ((now.process_resident_memory_bytes || 0) / 1e6).toFixed(0) + " MB"],
  ];
  $("figures").replaceChildren(...rows.flatMap(([name, value]) => {
    const tile = document.createElement("div");
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    tile.append(term, text);
    return [tile];
  }));
}

// Explain: the shares of the kinds of steps, and a bar for each step.

function byKind(steps) {
  const found = new Map();
  for (const step of steps) {
    // "layers.3.ffn.down" is of the kind "ffn.down", as in all layers.
    const name = (step.name || step.op).replace(/^(.*\.)?\d+\./, "");
    const kind = step.op === "linear" ? name : step.op;
    const one = found.get(kind) || { kind, ms: 0, count: 0, linear: step.op === "linear", zeros: 0, formats: new Set() };
    one.ms += step.ms;
    one.count += 1;
    if (one.linear) {
      one.zeros += step.zeros;
      step.formats.forEach((format) => one.formats.add(format));
    }
    found.set(kind, one);
  }
  return [...found.values()].sort((a, b) => b.ms - a.ms);
}

function rowOf(cells, kind = "td") {
  const row = document.createElement("tr");
  row.append(...cells.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
  return row;
}

function drawParts(steps, total) {
  const kinds = byKind(steps);
  let x = 0;
  $("whole").replaceChildren(...kinds.flatMap((one, i) => {
    const width = (1000 * one.ms) / total, begin = x;
    x += width;
    const part = make("rect", { x: begin, y: 0, width: Math.max(0.5, width - 1), height: 34, class: one.linear ? "linear" : "other" });
    part.setAttribute("fill-opacity", Math.max(0.3, 1 - 0.13 * i));
    part.append(make("title", {}, one.kind));
    return width < 90 ? [part] : [part, make("text", { x: begin + 8, y: 22, class: "on" }, one.kind)];
  }));
  $("parts").replaceChildren(rowOf(["Kind", "Time", "Share", "Steps", "Zeros", "Format"], "th"), ...kinds.map((one) => rowOf([
    one.kind, one.ms.toFixed(2) + " ms", ((100 * one.ms) / total).toFixed(1) + " %", one.count,
    one.linear ? ((100 * one.zeros) / one.count).toFixed(0) + " %" : "", [...one.formats].join(", "),
  ])));
}

function drawSteps(steps) {
  const most = Math.max(...steps.map((step) => step.ms)), height = 15;
  $("layers").setAttribute("viewBox", `0 0 900 ${height * steps.length + 6}`);
  $("layers").replaceChildren(...steps.flatMap((step, i) => {
    const y = i * height + 3, width = Math.max(1, (370 * step.ms) / most), linear = step.op === "linear";
    const detail = linear ? `  ${step.shape.join("x")}, ${(100 * step.zeros).toFixed(0)} % zeros, ${step.formats.join("+")}` : "";
    const bar = { x: 230, y, width, height: height - 3, class: linear ? "linear" : "other" };
    if (linear) bar["fill-opacity"] = 0.45 + 0.55 * step.zeros;
    return [
      make("text", { x: 224, y: y + 10, "text-anchor": "end" }, step.name || step.op),
      make("rect", bar),
      make("text", { x: 236 + width, y: y + 10 }, step.ms.toFixed(3) + " ms" + detail),
    ];
  }));
}

const explain = guarded(async () => {
  const name = $("model").value;
  if (!name) return;
  $("explain-head").textContent = "Measuring " + name + " \u2026";
  const found = await (await ask("/explain?model=" + encodeURIComponent(name))).json();
  const steps = found.steps.filter((step) => step.ms > 0);
  $("explain-head").textContent = `${found.model}: ${found.total_ms.toFixed(1)} ms for ${found.tokens} tokens`;
  $("explain-quiet").textContent =
    `${found.threads === 1 ? "One thread" : found.threads + " threads"}, ${found.quantization}, ` +
    `${(found.bytes / 1e6).toFixed(1)} MB of weights. Measured once, between other requests. Blue: linear layers, grey: the rest.`;
  drawParts(steps, found.total_ms);
  drawSteps(steps);
});

$("tabs").addEventListener("click", (event) => { if (event.target.dataset.tab) show(event.target.dataset.tab); });
$("search-form").addEventListener("submit", search);
$("chat-form").addEventListener("submit", send);
$("stop").addEventListener("click", () => running && running.abort());
$("forget").addEventListener("click", () => { if (!running) { talk = []; $("talk").replaceChildren(); $("chat-time").textContent = ""; } });
$("key").addEventListener("change", connect);
$("model").addEventListener("change", () => { if (tab === "explain") explain(); });
if ($(location.hash.slice(1))?.tagName === "MAIN") tab = location.hash.slice(1);  // a link to a tab
setInterval(() => measure().catch((error) => complain(error.message)), 2000);
connect();
