"""How alike two models' answers are: neighbours against a slow reference, every kind of model, several sets, the command."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel import evaluate
from aerogel.cli.app import app
from aerogel.errors import DataError, ShapeError, UnsupportedModelError
from aerogel.evaluate.neighbours import nearest, overlap

from .. import tiny_models


def sentences(count, seed=0):
    random = np.random.default_rng(seed)
    return [f"{i} " + " ".join(random.choice(tiny_models.WORDS, 5)) for i in range(count)]


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "news.txt"
    file.write_text("\n".join(sentences(40)))
    return file


@pytest.fixture(scope="module")
def pruned(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("alike") / "pruned"
    aerogel.compress(bert_folder, out, sparsity=0.5)
    return out


class Embeds:
    """A model that is a table."""

    def __init__(self, rows):
        self.rows = rows

    def encode(self, texts):
        return self.rows[: len(texts)]


@pytest.mark.parametrize("count,width,k", [(11, 3, 10), (30, 8, 4), (700, 16, 10)])
def test_neighbours_are_those_of_a_full_sort(count, width, k):
    rows = np.random.default_rng(1).standard_normal((count, width)).astype("f4")
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    expected = np.argsort(-similar, axis=1)[:, :k]
    assert (np.sort(nearest(rows, k), axis=1) == np.sort(expected, axis=1)).all()


def test_overlap_counts_what_both_find():
    random = np.random.default_rng(2)
    a, b = random.standard_normal((50, 8)), random.standard_normal((50, 5))
    expected = [len(set(x) & set(y)) / 10 for x, y in zip(nearest(a).tolist(), nearest(b).tolist())]
    np.testing.assert_allclose(overlap(a, b), expected)
    assert (overlap(a, 3 * a) == 1).all()
    with pytest.raises(ShapeError, match="b: expected 50 embeddings, as many as a, got 49"):
        overlap(a, b[:49])
    with pytest.raises(DataError, match="expected more than 10, each with 10 neighbours, got 10"):
        nearest(a[:10])


def test_embeddings_beside_the_dense_model(bert_folder, pruned, texts):
    dense, model = aerogel.load(bert_folder), aerogel.load(pruned)
    found = evaluate.alike(model, texts, dense)
    a, b = model.encode(sentences(40)), dense.encode(sentences(40))
    assert found.value == pytest.approx((a * b).sum(1).mean(), abs=1e-6) and found.metric == "cosine_mean"
    assert found.figures["overlap10"].value == pytest.approx(overlap(a, b).mean())
    assert found.figures["overlap10"].low < found.figures["overlap10"].value < found.figures["overlap10"].high
    assert found.facts == {"file": "news.txt", "texts": 40} and found.against.agreement == found.figures
    itself = evaluate.alike(dense, texts, dense).figures
    assert itself["overlap10"].low == 1 and itself["cosine_min"].value == pytest.approx(1)
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_same_text_is_not_its_own_neighbour_and_a_book_is_many_texts(tmp_path):
    twice = evaluate.Alike.of([*sentences(12), *sentences(12)], "twice")
    assert twice.texts == sentences(12) and twice.set_name == "twice"
    book = evaluate.Alike.of([" ".join(map(str, range(64 * 12 + 1)))], "book")
    assert len(book.texts) == 13 and book.texts[-1] == "768"
    assert len(evaluate.Alike.of(sentences(50), "many", limit=20).texts) == 20
    with pytest.raises(DataError, match="few: expected more than 10 different texts, got 1"):
        evaluate.Alike.of(["a"] * 30, "few")


def test_labels_and_ranks(tmp_path, texts):
    def written(name, labels):
        config = {**tiny_models.BERT, "architectures": ["BertForSequenceClassification"], "num_labels": labels}
        config["id2label"] = {str(i): str(i) for i in range(labels)}
        folder = tiny_models.write(tmp_path / name, config, tiny_models.bert_weights(config, labels), prefix="bert.")
        return aerogel.load(folder), aerogel.load(folder, quant="int4:g32")

    dense, rough = written("labels", 3)
    found = evaluate.alike(rough, texts, dense)
    expected = (rough.scores(sentences(40)).argmax(1) == dense.scores(sentences(40)).argmax(1)).mean()
    assert found.metric == "same_label" and found.value == pytest.approx(expected)
    ranker, rough = written("ranks", 1)
    found = evaluate.alike(rough, texts, ranker)
    pairs = sentences(40), [*sentences(40)[1:], sentences(40)[0]]
    stats = pytest.importorskip("scipy.stats")
    expected = stats.spearmanr(rough.scores(*pairs)[:, 0], ranker.scores(*pairs)[:, 0]).statistic
    assert found.metric == "rank" and found.value == pytest.approx(expected, abs=1e-6)
    with pytest.raises(DataError, match="the dense model gives 1 values a text, this one 3"):
        evaluate.alike(dense, texts, ranker)


def test_what_cannot_be_compared(texts, llama_folder, bert_folder):
    with pytest.raises(UnsupportedModelError, match="neither embeddings nor scores.*use `text`"):
        llama = aerogel.load(llama_folder)
        evaluate.alike(llama, texts, llama)
    with pytest.raises(DataError, match="expected a dense model to compare with, got none"):
        evaluate.alike(aerogel.load(bert_folder), texts, None)
    with pytest.raises(DataError, match="expected finite numbers, got NaN or infinity for 1 of 40"):
        rows = np.ones((40, 4))
        rows[3] = np.nan
        evaluate.alike(Embeds(rows), texts, Embeds(np.ones((40, 4))))


def test_the_worst_of_several_sets(texts):
    random = np.random.default_rng(0)
    dense = random.standard_normal((60, 16))
    near, far = dense + 0.01 * random.standard_normal((60, 16)), random.standard_normal((60, 16))
    first, second = evaluate.Alike.of(sentences(60), "near"), evaluate.Alike.of(sentences(60), "far")
    scores = {"near": first.evaluate(Embeds(near), Embeds(dense)), "far": second.evaluate(Embeds(far), Embeds(dense))}
    both = evaluate.Domains(scores)
    name, worst = both.worst()["cosine_mean"]
    assert name == "far" and worst.value < 0.2 and both.worst()["overlap10"][0] == "far"
    assert both.shares_index is False
    assert evaluate.Domains({"near": scores["near"]}).shares_index is True
    found = evaluate.evaluate_all(Embeds(near), [first, evaluate.Alike.of(sentences(50), "near")], Embeds(dense))
    assert list(found.scores) == ["near", "near (2)"]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["worst"]["overlap10"]["set"].startswith("near")
    with pytest.raises(DataError, match="tasks: expected at least one, got none"):
        evaluate.evaluate_all(Embeds(near), [], Embeds(dense))


def test_perplexity_is_worse_where_it_is_higher(llama_folder, tmp_path):
    dense, rough = aerogel.load(llama_folder), aerogel.load(llama_folder, quant="int4:g32")
    sets = [evaluate.Text.of(" ".join(sentences(40, seed)), f"text {seed}", 16) for seed in range(3)]
    found = evaluate.evaluate_all(rough, sets, dense)
    ratios = {name: score.against.kept.value for name, score in found.scores.items()}
    name, worst = found.worst()["perplexity / dense"]
    assert worst.value == max(ratios.values()) == ratios[name]
    divergences = [score.against.agreement["kl_mean"].value for score in found.scores.values()]
    assert found.worst()["kl_mean"][1].value == max(divergences) and found.shares_index is None


def test_the_command_with_several_sets(bert_folder, pruned, texts, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("".join(f"{a},{b},{i % 6}\n" for i, (a, b) in enumerate(zip(sentences(30), sentences(30, 1)))))
    command = ["eval", str(pruned), "--against", str(bert_folder), "--sts", str(pairs), "--alike", str(texts)]
    done = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "out.json")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert (
        re.search(r"pairs\.csv +spearman", done.output) and "can share an index with the dense model: no" in done.output
    )
    written = json.loads((tmp_path / "out.json").read_text())
    assert set(written["scores"]) == {"pairs.csv", "news.txt"} and written["shares_index"] is False
    alone = CliRunner().invoke(app, ["eval", str(pruned), "--alike", str(texts)])
    assert alone.exit_code == 2 and "--against DENSE" in alone.output
