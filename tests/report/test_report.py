"""The page: well formed, complete, without anything from outside, whatever the report lacks or the names hold."""

import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import aerogel
from aerogel.errors import AerogelError
from aerogel.evaluate import Comparison, Estimate, Score
from aerogel.report import write_report
from aerogel.report.chart import Dot, log_ticks, scatter, ticks
from aerogel.report.facts import facts_of
from aerogel.report.maps import short_kind
from aerogel.sweeps import Point, Sweep

VOID = {"meta", "circle", "line", "rect", "path", "br"}


class Checker(HTMLParser):
    """Every tag is closed in order; texts and attributes are kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    text = path.read_text(encoding="utf-8")
    found = Checker(text)
    for tag, name, value in found.attributes:
        assert name not in ("src", "href"), f"{tag} {name}={value}"
    assert "url(" not in text and "@import" not in text and "http" not in text
    return text, " ".join(found.text)


@pytest.fixture(scope="module")
def report(bert_folder, tmp_path_factory):
    return aerogel.compress(bert_folder, tmp_path_factory.mktemp("report") / "small", sparsity=0.75, method="magnitude")


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def points(count=4, lower=False):
    found = [Point("dense fp32", {}, {"file_bytes": 90e6, "sparsity": 0.0}, dense=True)]
    for i in range(count):
        score = {
            "metric": "perplexity" if lower else "spearman",
            "figures": {"perplexity" if lower else "spearman": figure(0.9 - 0.1 * i, 0.85 - 0.1 * i, 0.95 - 0.1 * i)},
            "against": {"kept": figure(1 - 0.1 * i), "dense": {}, "agreement": {"cosine_mean": figure(0.99)}},
        }
        timing = {"median": 5.0 - i, "min": 1, "q1": 4.9 - i, "q3": 5.1 - i, "speedup": 1.0 + i}
        found.append(
            Point(f"p{i}", {"sparsity": i / 10}, {"file_bytes": 2e7 - 1e6 * i, "sparsity": i / 10}, score, timing)
        )
    return found


def make_sweep(some, lower=False):
    return Sweep(
        "model", "sts", "perplexity" if lower else "spearman", lower, "1x128", {"cpu": "x < y"}, some, ["noisy & loud"]
    )


def test_a_compression(report, tmp_path):
    out = write_report(report, tmp_path / "deep" / "page")
    text, words = read(out)
    assert out == tmp_path / "deep" / "page" / "index.html"
    assert "prefers-color-scheme: dark" in text
    for tensor in report.tensors:
        assert tensor.name in words
    assert "sparsity: 0.75" in words and aerogel.__version__ in words
    facts = facts_of(report)
    assert facts.sparsity == pytest.approx(report.sparsity) and facts.file_bytes == report.file_bytes
    linear = [t for t in report.tensors if t.role == "linear"]
    size = sum(t.shape[0] * t.shape[1] for t in linear)
    assert facts.bits == pytest.approx(8 * sum(t.bytes for t in linear) / size) and f"{facts.bits:.2f}" in words
    assert text.count('class="heat"') == 3
    layers, kinds = 2, 6
    assert text.count('style="--v:') == 3 * layers * kinds
    assert "1 × 2" not in words and "× 2" in words  # two of each kind


def test_plain_values_say_the_same(report, tmp_path):
    a = write_report(report, tmp_path / "a").read_text()
    b = write_report(report.as_dict(), tmp_path / "b").read_text()

    def without_time(text):
        return [line for line in text.splitlines() if "<dt>when" not in line]

    assert without_time(a) == without_time(b)


def test_what_a_report_may_have_beside(report, tmp_path):
    values = report.as_dict()
    tensors = [{**t, "predicted_ms": 0.125, "method": "wanda", "scheme": "int4:g64"} for t in values["tensors"]]
    text, words = read(write_report({**values, "tensors": tensors, "predicted_ms": 3.21}, tmp_path))
    assert "3.21 ms" in words and "wanda" in words and "int4:g64" in words and "0.125" in words
    assert text.count('class="heat"') == 4
    _, words = read(write_report({"tensors": []}, tmp_path / "empty"))
    assert "bits per weight there" not in words


def test_names_are_no_markup(report, tmp_path):
    first = replace(report.tensors[0], name='<script>alert("x")</script>')
    bad = replace(report, tensors=[first, *report.tensors[1:]], path="a/<b>&c", recipe={"<i>": "</pre>"})
    text, words = read(write_report(bad, tmp_path, sweep=make_sweep(points())))
    assert "<script>" not in text and '<script>alert("x")</script>' in words and "noisy & loud" in words


def test_a_score(report, tmp_path):
    score = Score(
        "sts",
        "spearman",
        {"spearman": Estimate(0.81234, 0.8, 0.9), "pearson": Estimate(math.nan)},
        values=[],
        against=Comparison({"spearman": Estimate(0.9)}, Estimate(0.9026, 0.89, 0.91), {"cosine_mean": Estimate(0.7)}),
    )
    _, words = read(write_report(report, tmp_path, scores=[score]))
    assert "0.8123" in words and "90.3%" in words and "cosine to dense, mean" in words


@pytest.mark.parametrize("lower", [False, True])
def test_a_sweep_alone(tmp_path, lower):
    sweep = make_sweep(points(lower=lower), lower)
    text, words = read(write_report(None, tmp_path, sweep=sweep))
    assert text.count('<path class="front"') == (0 if lower else 2)  # one point is best in everything, or none is
    for point in sweep.points:
        assert point.name in words
    assert "x < y" in words


def test_a_sweep_with_holes(tmp_path):
    some = points()
    some[2] = replace(some[2], timing=None)
    some[3] = replace(some[3], report=None, score=None, timing=None, error="cannot <be> done")
    _, words = read(write_report(None, tmp_path, sweep=make_sweep(some)))
    assert "cannot <be> done" in words
    with pytest.raises(AerogelError, match="index.html: exists"):
        write_report(None, tmp_path, sweep=make_sweep(some[:1]))
    read(write_report(None, tmp_path, sweep=make_sweep(some[:1]), overwrite=True))


def test_what_cannot_be_written(tmp_path, report):
    with pytest.raises(AerogelError, match="got neither"):
        write_report(None, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AerogelError, match="is not a folder"):
        write_report(report, tmp_path / "file")


@pytest.mark.parametrize("low,high", [(0, 1), (81.2, 100.9), (-3, 1e6), (0.8661, 0.8672), (1e-9, 2e-9)])
def test_ticks_are_round_and_few(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7 and all(low - 1e-9 * high <= t <= high + 1e-9 * high for t in found)
    assert len({float(f"{t:.6g}") for t in found}) == len(found)


@pytest.mark.parametrize("low,high", [(12, 95), (0.5, 600), (3, 10)])
def test_log_ticks(low, high):
    found = log_ticks(low, high)
    assert 3 <= len(found) <= 13 and found == sorted(found) and low <= found[0] and found[-1] <= high


def test_a_chart_of_one_dot_and_of_none():
    dot = Dot("a", 1.0, 2.0, math.nan, math.nan, True, False, "tip")
    assert "<circle" in scatter([dot], "x", "y", str, str)
    assert scatter([], "x", "y", str, str) == scatter([replace(dot, x=math.nan)], "x", "y", str, str) == ""


@pytest.mark.parametrize(
    "kind,short",
    [
        ("attention.self.query", "query"),
        ("attention.output.dense", "attn output"),
        ("output.dense", "ffn output"),
        ("self_attn.q_proj", "q"),
        ("mlp.down_proj", "down"),
        ("dense", "dense"),
    ],
)
def test_short_kinds(kind, short):
    assert short_kind(kind) == short
