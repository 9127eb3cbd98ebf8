// The routes, from the OpenAPI document of this server.
"use strict";

function element(kind, text, ...children) {
  const found = document.createElement(kind);
  if (text) found.textContent = text;
  found.append(...children);
  return found;
}

function kindOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return "[" + (schema.items ? kindOf(schema.items) : "any") + "]";
  return schema.type || "any";
}

function fields(schema, known) {
  const own = schema.$ref ? known[schema.$ref.split("/").pop()] : schema;
  const needed = new Set(own.required || []);
  const rows = Object.entries(own.properties || {}).map(([name, one]) => {
    const otherwise = needed.has(name) ? "required" : JSON.stringify(one.default === undefined ? null : one.default);
    return element("tr", "", element("td", name), element("td", kindOf(one)), element("td", otherwise));
  });
  const head = element("tr", "", element("th", "field"), element("th", "type"), element("th", "default"));
  return element("table", "", head, ...rows);
}

async function list() {
  const answer = await (await fetch("/openapi.json")).json();
  const known = answer.components.schemas, groups = new Map();
  for (const [path, methods] of Object.entries(answer.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      const part = element("details", "", element("summary", method.toUpperCase() + " " + path));
      part.append(element("p", one.summary));
      if (one.requestBody) part.append(fields(one.requestBody.content["application/json"].schema, known));
      const tag = one.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(part);
    }
  }
  for (const [tag, parts] of groups) document.getElementById("routes").append(element("h2", tag), ...parts);
}

list().catch((error) => {
  document.getElementById("error").textContent = error.message;
  document.getElementById("error").hidden = false;
});
