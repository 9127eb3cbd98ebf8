"""The tasks on tiny models, against slow references; hostile files; and real models where they are there."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel import evaluate
from aerogel.cli.app import app
from aerogel.errors import AerogelError, DataError, UnsupportedModelError

from .. import tiny_models
from ..reference import evaluate as reference

WORDS = tiny_models.WORDS
DATA = Path(__file__).parents[3] / "shared" / "data"


def sentences(count, seed=0, words=6):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, words))) for _ in range(count)]


@pytest.fixture(scope="module")
def bert(bert_folder):
    return aerogel.load(bert_folder)


@pytest.fixture(scope="module")
def pruned(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "pruned"
    aerogel.compress(bert_folder, out, sparsity=0.5, method="magnitude")
    return out


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    names = {"bad": 0, "fair": 1, "good": 2}
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): name for name, i in names.items()},
        "label2id": names,
    }
    folder = tmp_path_factory.mktemp("evaluate") / "classifier"
    return tiny_models.write(folder, config, tiny_models.bert_weights(config, 3), prefix="bert.")


@pytest.fixture(scope="module")
def llama(llama_folder):
    return aerogel.load(llama_folder)


@pytest.fixture
def pairs(tmp_path):
    left, right = sentences(30, 1), sentences(30, 2)
    scores = np.random.default_rng(3).integers(0, 6, 30)
    file = tmp_path / "pairs.csv"
    file.write_text("".join(f"{a},{b},{s}\n" for a, b, s in zip(left, right, scores)))
    return file, left, right, scores


# --- sts


def test_sts(bert, pairs):
    stats = pytest.importorskip("scipy.stats")
    file, left, right, scores = pairs
    cosine = (bert.encode(left) * bert.encode(right)).sum(1)
    found = evaluate.sts(bert, file)
    np.testing.assert_allclose(found.values, cosine, atol=1e-6)
    assert found.value == pytest.approx(stats.spearmanr(cosine, scores).statistic, abs=1e-6)
    assert found.figures["pearson"].value == pytest.approx(stats.pearsonr(cosine, scores).statistic, abs=1e-6)
    figure = found.figures["spearman"]
    assert -1 <= figure.low < figure.value < figure.high <= 1
    assert found.against is None and found.facts["pairs"] == 30
    assert evaluate.sts(bert, file).as_dict() == found.as_dict()


def test_sts_beside_a_dense_model(bert, pruned, pairs):
    file = pairs[0]
    model = aerogel.load(pruned)
    found = evaluate.sts(model, file, against=bert)
    alone, dense = evaluate.sts(model, file), evaluate.sts(bert, file)
    assert found.figures == alone.figures and found.against.dense == dense.figures
    assert found.against.kept.value == pytest.approx(alone.value / dense.value)
    left, right = pairs[1], pairs[2]
    cosine = (model.encode(left + right) * bert.encode(left + right)).sum(1)
    agreement = found.against.agreement
    assert agreement["cosine_mean"].value == pytest.approx(cosine.mean(), abs=1e-6)
    assert agreement["cosine_q10"].value == pytest.approx(np.quantile(cosine, 0.1), abs=1e-6)
    assert agreement["cosine_min"].value == pytest.approx(cosine.min(), abs=1e-6)


def test_a_model_beside_itself_keeps_everything(bert, pairs):
    against = evaluate.sts(bert, pairs[0], against=bert).against
    assert against.kept.value == against.kept.low == against.kept.high == 1
    assert against.agreement["cosine_min"].value == pytest.approx(1)


class Constant:
    def __init__(self, value=1.0):
        self.value = value

    def encode(self, texts):
        return np.full((len(texts), 4), self.value)


def test_a_model_that_says_the_same_of_everything(pairs):
    for value in (1.0, 0.0):
        found = evaluate.sts(Constant(value), pairs[0])
        assert math.isnan(found.value)
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["figures"]["spearman"]["value"] is None
    with pytest.raises(DataError, match="embeddings: expected finite numbers, got NaN or infinity for 60 of 60"):
        evaluate.sts(Constant(math.nan), pairs[0])


@pytest.mark.parametrize(
    "text,message",
    [
        ("a,b,1\na,b,x\n", r"a\.csv:2: expected a score, which is a number, got 'x'"),
        ("a,b,five\na,b,1\n", r"a\.csv:1: expected a score"),
        ("a,b,1\na,b,nan\n", r"a\.csv:2: expected a score"),
        ("a,b,1\na,b,inf\n", r"a\.csv:2: expected a score"),
        ("a,b,score\na,b,1\n", "at least 2 pairs of sentences, got 1"),
        ("a,b,1\na,b,1\n", "expected scores that differ, all 2 are 1"),
        ("a,b\n", r"a\.csv:1: expected sentence, sentence, score"),
    ],
)
def test_sts_files_that_are_wrong(tmp_path, text, message):
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate.sts(Constant(), file)


def test_a_model_without_pooling(llama, pairs):
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        evaluate.sts(llama, pairs[0])


# --- classify


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_classify(classifier, tmp_path, paired, named):
    model = aerogel.load(classifier)
    texts, others = sentences(40, 5), sentences(40, 6)
    truth = np.random.default_rng(7).integers(0, 3, 40).tolist()
    labels = [("bad", "fair", "good")[t] if named else t for t in truth]
    rows = [[a, b, c] if paired else [a, c] for a, b, c in zip(texts, others, labels)]
    file = tmp_path / "rows.tsv"
    file.write_text("\n".join("\t".join(map(str, row)) for row in rows))
    found = evaluate.classify(model, file)
    predicted = model.scores(texts, others if paired else None).argmax(1).tolist()
    assert found.values.tolist() == [float(p == t) for p, t in zip(predicted, truth)]
    assert found.value == np.mean(found.values) and found.facts["pairs"] == paired
    assert found.figures["f1_macro"].value == pytest.approx(reference.f1_macro(predicted, truth))


def test_classify_beside_a_dense_model(classifier, tmp_path):
    aerogel.compress(classifier, tmp_path / "pruned", sparsity=0.3, method="magnitude")
    dense, model = aerogel.load(classifier), aerogel.load(tmp_path / "pruned")
    texts = sentences(40, 5)
    own, other = model.scores(texts), dense.scores(texts)
    file = tmp_path / "rows.csv"
    file.write_text("sentence,label\n" + "".join(f"{t},{o.argmax()}\n" for t, o in zip(texts, other)))
    found = evaluate.classify(model, file, against=dense).against
    assert found.dense["accuracy"].value == 1
    assert found.kept.value == found.agreement["same_label"].value == (own.argmax(1) == other.argmax(1)).mean()
    p, q = ([reference.log_softmax(row) for row in rows] for rows in (other, own))
    kl = np.mean([(np.exp(a) * (a - b)).sum() for a, b in zip(p, q)])
    assert found.agreement["kl_mean"].value == pytest.approx(kl, abs=1e-9)
    assert found.agreement["kl_mean"].value >= 0


@pytest.mark.parametrize(
    "text,message",
    [
        ("a\t0\nb\t3\n", r"a\.tsv:2: expected a label from 0 to 2 or one of bad, fair, good, got '3'"),
        ("a\t0\nb\t-1\n", r"a\.tsv:2: expected a label"),
        ("a\t0\nb\tawful\n", r"a\.tsv:2: expected a label"),
        ("a\t0\nb\t1.0\n", r"a\.tsv:2: expected a label"),
        ("a\t0\nb\t²\n", r"a\.tsv:2: expected a label"),
        ("sentence\tlabel\n", "expected labelled sentences, got none"),
        ("a\n", r"a\.tsv:1: expected sentence, label"),
    ],
)
def test_classify_files_that_are_wrong(classifier, tmp_path, text, message):
    file = tmp_path / "a.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        evaluate.classify(aerogel.load(classifier), file)


def test_a_model_that_does_not_classify(bert, tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("a\t0\n")
    with pytest.raises(UnsupportedModelError, match="is no classifier"):
        evaluate.classify(bert, file)
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
    }
    folder = tiny_models.write(tmp_path / "ranker", config, tiny_models.bert_weights(config), prefix="bert.")
    with pytest.raises(UnsupportedModelError, match="it ranks, it does not classify"):
        evaluate.classify(aerogel.load(folder), file)


# --- text


@pytest.mark.parametrize("count,context", [(2, 8), (3, 2), (17, 8), (16, 8), (40, 64), (50, 7)])
def test_perplexity_is_the_references(llama, tmp_path, count, context):
    words = np.random.default_rng(count).choice(WORDS, count).tolist()
    file = tmp_path / "a.txt"
    file.write_text(" ".join(words))
    found = evaluate.text(llama, file, context=context)
    ids = llama.tokenizer.encode([" ".join(words)])[0]
    assert len(ids) == count
    nll = []
    for begin in range(0, count, context):
        piece = ids[begin : begin + context]
        rows = llama.forward(piece) if len(piece) > 1 else []
        nll += [-reference.log_softmax(row)[token] for row, token in zip(rows, piece[1:])]
    assert found.facts["tokens"] == len(nll) and found.facts["prefix"] == 0
    assert found.figures["nll"].value == pytest.approx(np.mean(nll), rel=1e-5)
    assert found.value == pytest.approx(math.exp(np.mean(nll)), rel=1e-5)
    assert found.lower_is_better and len(found.values) == found.facts["windows"]


class WithBos:
    """A model whose tokenizer puts token 1 before a text and, perhaps, 2 after it."""

    def __init__(self, model, before=True, after=False):
        self._model, self.tokenizer = model, self
        self.before, self.after = before, after
        self.seen = []

    def encode(self, texts):
        return [[1] * self.before + ids + [2] * self.after for ids in self._model.tokenizer.encode(texts)]

    def forward(self, ids, offsets, output):
        self.seen.append(ids.tolist())
        return self._model.forward(ids, offsets, output)


@pytest.mark.parametrize("after", [False, True])
def test_a_tokenizer_that_begins_texts(llama, tmp_path, after):
    words = np.random.default_rng(0).choice(WORDS, 11).tolist()
    file = tmp_path / "a.txt"
    file.write_text(" ".join(words))
    ids = llama.tokenizer.encode([" ".join(words)])[0]
    model = WithBos(llama, after=after)
    found = evaluate.text(model, file, context=5)
    assert model.seen == [[1, *ids[:4]], [1, *ids[4:8]], [1, *ids[8:]]]
    assert found.facts["tokens"] == 11 and found.facts["prefix"] == 1
    nll = []
    for window in model.seen:
        nll += [-reference.log_softmax(row)[t] for row, t in zip(llama.forward(window), window[1:])]
    assert found.figures["nll"].value == pytest.approx(np.mean(nll), rel=1e-5)


def test_text_beside_a_dense_model(llama, llama_folder, tmp_path):
    aerogel.compress(llama_folder, tmp_path / "pruned", sparsity=0.5, method="magnitude")
    model = aerogel.load(tmp_path / "pruned")
    file = tmp_path / "a.txt"
    file.write_text(" ".join(np.random.default_rng(0).choice(WORDS, 50)))
    found = evaluate.text(model, file, against=llama, context=16)
    alone, dense = evaluate.text(model, file, context=16), evaluate.text(llama, file, context=16)
    assert found.figures == alone.figures and found.against.dense == dense.figures
    assert found.against.kept.value == pytest.approx(alone.value / dense.value)
    kl, same = [], []
    ids = model.tokenizer.encode([file.read_text()])[0]
    for begin in range(0, 50, 16):
        piece = ids[begin : begin + 16]
        for a, b in zip(llama.forward(piece)[:-1], model.forward(piece)[:-1]):
            p, q = reference.log_softmax(a), reference.log_softmax(b)
            kl.append((np.exp(p) * (p - q)).sum())
            same.append(p.argmax() == q.argmax())
    agreement = found.against.agreement
    assert agreement["kl_mean"].value == pytest.approx(np.mean(kl), rel=1e-4)
    assert agreement["same_top"].value == np.mean(same)
    itself = evaluate.text(llama, file, against=llama, context=16).against
    assert itself.kept.value == 1 and itself.agreement["kl_mean"].value == 0 and itself.agreement["same_top"].value == 1


def test_texts_and_models_that_cannot_be_scored(llama, bert, tmp_path):
    file = tmp_path / "a.txt"
    for text, message in (("", "is empty"), ("cat", "expected a text of at least 2 tokens, got 1")):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            evaluate.text(llama, file, context=8)
    file.write_text("the cat sat on the mat")
    with pytest.raises(DataError, match="context: expected at most 64 tokens, all that the model has, got 512"):
        evaluate.text(llama, file)
    with pytest.raises(DataError, match="context: expected at least 2, got 1"):
        evaluate.text(llama, file, context=1)
    with pytest.raises(UnsupportedModelError, match="has no logits"):
        evaluate.text(bert, file, context=8)
    with pytest.raises(DataError, match="different tokenizers"):
        evaluate.text(llama, file, against=WithBos(llama), context=8)
    config = {**tiny_models.BERT, "architectures": ["BertForMaskedLM"]}
    folder = tiny_models.write(tmp_path / "mlm", config, tiny_models.bert_weights(config), prefix="bert.")
    with pytest.raises(UnsupportedModelError, match="masked language model.*not supported"):
        evaluate.text(aerogel.load(folder), file, context=8)


# --- retrieval


@pytest.fixture
def library(tmp_path):
    """(files, texts, queries, gains by query name)."""
    texts = list(dict.fromkeys(sentences(200, 8, words=14)))[:150]  # no two alike, so that no ties decide
    documents = {f"d{i}": text for i, text in enumerate(texts)}
    queries = {f"q{i}": text for i, text in enumerate(sentences(12, 9))} | {"d3": documents["d3"]}
    random = np.random.default_rng(10)
    gains = {q: {f"d{d}": int(random.integers(0, 3)) for d in random.choice(150, 5, replace=False)} for q in queries}
    gains["q0"] = {"d1": 0}  # nothing relevant: left out
    with (tmp_path / "corpus.jsonl").open("w") as file:
        for i, (name, text) in enumerate(documents.items()):
            title, _, rest = text.partition(" ") if i % 2 else ("", "", text)
            file.write(json.dumps({"_id": name, "title": title, "text": rest}) + "\n")
    (tmp_path / "queries.tsv").write_text("".join(f"{q}\t{t}\n" for q, t in queries.items()))
    rows = [f"{q}\t{d}\t{g}\n" for q, found in gains.items() for d, g in found.items()]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return [tmp_path / name for name in ("corpus.jsonl", "queries.tsv", "qrels.tsv")], documents, queries, gains


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_retrieval(bert, library, monkeypatch, chunk):
    monkeypatch.setattr(sys.modules["aerogel.evaluate.retrieval"], "CHUNK", chunk)
    files, documents, queries, gains = library
    found = evaluate.retrieval(bert, *files)
    names = list(documents)
    cosine = bert.encode(list(queries.values())) @ bert.encode(list(documents.values())).T
    expected = {"ndcg@10": [], "recall@10": [], "recall@100": [], "mrr@10": []}
    for query, row in zip(queries, cosine):
        relevant = {d: g for d, g in gains[query].items() if g > 0}
        if not relevant:
            continue
        order = [names[i] for i in np.argsort(-row, kind="stable") if names[i] != query]
        expected["ndcg@10"].append(reference.ndcg(order, relevant))
        expected["mrr@10"].append(reference.reciprocal_rank(order, relevant))
        for k in (10, 100):
            expected[f"recall@{k}"].append(len({*order[:k]} & {*relevant}) / len(relevant))
    for name, values in expected.items():
        assert found.figures[name].value == pytest.approx(np.mean(values)), name
    assert found.facts["queries"] == len(expected["mrr@10"]) and found.facts["documents"] == 150


def test_retrieval_beside_a_dense_model(bert, pruned, library):
    files = library[0]
    found = evaluate.retrieval(aerogel.load(pruned), *files, against=bert)
    assert found.against.kept.value == pytest.approx(found.value / evaluate.retrieval(bert, *files).value)
    assert 0 < found.against.agreement["same_top10"].value < 1
    itself = evaluate.retrieval(bert, *files, against=bert).against.agreement
    assert itself["same_top10"].value == 1 and itself["cosine_mean"].value == pytest.approx(1)


class Directions:
    """Embeds the text "3" as the direction 3."""

    def encode(self, texts):
        angles = np.array([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_a_ranking_by_hand(tmp_path):
    (tmp_path / "c.tsv").write_text("".join(f"d{i}\t{i / 10}\n" for i in range(5)))
    (tmp_path / "q.tsv").write_text("q\t0.09\n")
    (tmp_path / "r.tsv").write_text("q\t0\td0\t2\nq\t0\td2\t1\n")  # trec_eval's four columns
    found = evaluate.retrieval(Directions(), tmp_path / "c.tsv", tmp_path / "q.tsv", tmp_path / "r.tsv")
    # nearest to 0.09: d1, d0, d2
    dcg, best = 2 / math.log2(3) + 1 / math.log2(4), 2 / math.log2(2) + 1 / math.log2(3)
    assert found.value == pytest.approx(dcg / best)
    assert found.figures["mrr@10"].value == 0.5 and found.figures["recall@10"].value == 1


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("c.tsv", "d0\t0\nd0\t1\n", r"c\.tsv:2: expected an id of its own, 'd0' was there already"),
        ("r.tsv", "q\td9\t1\n", r"r\.tsv:1: expected a document of .*c\.tsv, got 'd9'"),
        ("r.tsv", "x\td0\t1\n", r"r\.tsv:1: expected a query of .*q\.tsv, got 'x'"),
        ("r.tsv", "q\td0\tyes\n", r"r\.tsv:1: expected a relevance, which is a number, got 'yes'"),
        ("r.tsv", "q\td0\t0\n", "expected relevant documents for some query, got none"),
        ("r.tsv", "q\td0\n", "3 or 4 fields"),
    ],
)
def test_retrieval_files_that_are_wrong(tmp_path, name, text, message):
    files = {"c.tsv": "d0\t0\nd1\t1\n", "q.tsv": "q\t0\n", "r.tsv": "q\td0\t1\n", name: text}
    for key, value in files.items():
        (tmp_path / key).write_text(value)
    with pytest.raises(DataError, match=message):
        evaluate.retrieval(Directions(), *(tmp_path / key for key in ("c.tsv", "q.tsv", "r.tsv")))


@pytest.mark.parametrize("entry", [{"text": "a"}, {"_id": "x"}, {"_id": "x", "text": 3}, {"_id": [], "text": "a"}])
def test_corpus_lines_that_are_wrong(tmp_path, entry):
    (tmp_path / "c.jsonl").write_text(json.dumps(entry))
    with pytest.raises(DataError, match=r"c\.jsonl:1: expected _id, text"):
        evaluate.Retrieval(tmp_path / "c.jsonl", tmp_path / "c.jsonl", tmp_path / "c.jsonl")


# --- the command


def run(*args, code=0):
    result = CliRunner().invoke(app, ["eval", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_the_command(bert_folder, pruned, pairs, tmp_path):
    out = run(pruned, "--sts", pairs[0], "--against", bert_folder, "--json", tmp_path / "out.json").stdout
    assert "spearman kept" in out and "cosine to dense, mean" in out
    found = json.loads((tmp_path / "out.json").read_text())
    expected = evaluate.sts(aerogel.load(pruned), pairs[0], aerogel.load(bert_folder)).as_dict()
    assert {key: found[key] for key in expected} == json.loads(json.dumps(expected))
    assert found["model"] == str(pruned) and len(found["values"]) == 30


def test_the_command_needs_one_task(bert_folder, pairs, tmp_path):
    assert "expected one or more of" in run(bert_folder, code=2).stderr
    run(bert_folder, "--retrieval", pairs[0], code=2)
    with pytest.raises(AerogelError, match="there is no folder"):
        run(bert_folder, "--sts", pairs[0], "--json", tmp_path / "no" / "file.json")
    with pytest.raises(AerogelError, match="is what is read"):
        run(bert_folder, "--sts", pairs[0], "--json", pairs[0], "--overwrite")


def test_the_other_tasks_as_commands(llama_folder, classifier, bert_folder, library, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat and not on the tree")
    assert "perplexity" in run(llama_folder, "--text", tmp_path / "a.txt", "--context", 8).stdout
    (tmp_path / "a.tsv").write_text("the cat\t0\nthe dog\t2\n")
    assert "f1_macro" in run(classifier, "--classify", tmp_path / "a.tsv").stdout
    assert "ndcg@10" in run(bert_folder, "--retrieval", *library[0]).stdout


# --- real models


def _shared(*parts):
    file = Path(os.environ.get("AEROGEL_DATA", DATA)).joinpath(*parts)
    if not file.exists():
        pytest.skip(f"{'/'.join(parts)}: not in ../shared/data; AEROGEL_DATA names another folder")
    return file


def test_minilm_on_stsb(minilm):
    found = evaluate.sts(aerogel.load(minilm), _shared("stsb", "dev.csv"))
    assert found.value == pytest.approx(0.86716, abs=1e-4)
    assert 0.845 < found.figures["spearman"].low < 0.86 < 0.87 < found.figures["spearman"].high < 0.89
