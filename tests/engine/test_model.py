import json
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import aerogel
from aerogel.errors import AerogelError, DataError, ShapeError, UnsupportedModelError

from .. import tiny_models
from ..conftest import random_ids
from ..reference import bert as reference

TEXTS = ["the cat sat on the mat", "", "a big dog", "xyzzy and the small red tree", "not"]


@pytest.fixture(scope="module")
def bert(bert_folder):
    return aerogel.load(bert_folder)


@pytest.fixture(scope="module")
def llama(llama_folder):
    return aerogel.load(llama_folder)


def test_encode_agrees_with_the_reference(bert):
    weights = tiny_models.bert_weights(tiny_models.BERT)
    expected = []
    for ids in bert.tokenizer.encode(TEXTS):
        pooled = reference.hidden(tiny_models.BERT, weights, ids).mean(0)
        expected.append(pooled / np.linalg.norm(pooled))
    got = bert.encode(TEXTS)
    assert got.dtype == np.float32 and got.shape == (5, 48)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 7, 20, 10_000])
def test_batches_do_not_change_the_result(bert, batch_tokens):
    np.testing.assert_allclose(bert.encode(TEXTS, batch_tokens), bert.encode(TEXTS), atol=1e-6)


def test_encode_at_the_edges(bert):
    assert bert.encode([]).shape == (0, 48)
    assert bert.encode("the cat").shape == (48,)
    assert bert.encode([""]).shape == (1, 48) and np.isfinite(bert.encode([""])).all()
    assert bert.encode(("a", "b")).shape == (2, 48)
    with pytest.raises(AerogelError, match="batch_tokens: expected at least 1"):
        bert.encode(["a"], batch_tokens=0)
    with pytest.raises(AerogelError, match="expected strings, got int"):
        bert.encode(["a", 3])


def test_normalize_on_and_off(bert_folder, tmp_path):
    model = aerogel.load(bert_folder)
    raw = model.encode(TEXTS, normalize=False)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), model.encode(TEXTS), atol=1e-6)
    np.testing.assert_array_equal(model.encode(TEXTS, normalize=True), model.encode(TEXTS))
    config = tiny_models.BERT
    plain = aerogel.load(tiny_models.write(tmp_path, config, tiny_models.bert_weights(config), pooling=("mean", False)))
    np.testing.assert_allclose(plain.encode(TEXTS), raw, atol=1e-6)
    np.testing.assert_allclose(plain.encode(TEXTS, normalize=True), model.encode(TEXTS), atol=1e-6)


def test_a_plain_bert_pools_by_mean(tmp_path, bert_folder, caplog):
    config = tiny_models.BERT
    folder = tiny_models.write(tmp_path, config, tiny_models.bert_weights(config))
    with caplog.at_level(logging.WARNING, "aerogel"):
        model = aerogel.load(folder)
    assert "the mean is used" in caplog.text
    np.testing.assert_allclose(model.encode(TEXTS), aerogel.load(bert_folder).encode(TEXTS, normalize=False), atol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "last"])
def test_the_caller_says_how_tokens_are_pooled(bert_folder, llama_folder, mode, caplog):
    for folder, normalized in (
        (bert_folder, True),
        (llama_folder, False),
    ):  # one says the mean, and length 1; one nothing
        model = aerogel.load(folder, pooling=mode)
        ids = random_ids(19, 7)
        hidden = model.forward(ids, output="hidden")
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0), "last": hidden[-1]}[mode]
        expected = expected / np.linalg.norm(expected) if normalized else expected
        np.testing.assert_allclose(model.forward(ids, output="embedding")[0], expected, atol=2e-5)
    assert "pools" not in caplog.text


def test_a_pooling_that_is_none(bert_folder):
    with pytest.raises(
        AerogelError, match="pooling: expected one of mean, cls, max, last, mean_sqrt_len, weightedmean, got 'median'"
    ):
        aerogel.load(bert_folder, pooling="median")


def test_long_texts_are_cut_and_said_so_once(bert_folder, caplog):
    model = aerogel.load(bert_folder)
    assert model.max_tokens == 32
    text = "cat " * 100
    with caplog.at_level(logging.WARNING, "aerogel"):
        got = model.encode([text, "dog"])
        model.encode(text)
    assert caplog.text.count("longer than 32 tokens are cut") == 1
    [ids] = model.tokenizer.encode([text], 32)
    assert len(ids) == 32
    np.testing.assert_allclose(got[0], model.forward([ids], output="embedding")[0], atol=1e-6)


def test_forward_takes_ids_in_three_forms(bert):
    a, b = random_ids(60, 4, 1), random_ids(60, 6, 2)
    apart = bert.forward([a, b])
    np.testing.assert_array_equal(bert.forward(a + b, [0, 4, 10]), apart)
    np.testing.assert_array_equal(bert.forward(np.array(a + b), np.array([0, 4, 10])), apart)
    np.testing.assert_allclose(bert.forward(a), apart[:4], atol=1e-6)


@pytest.mark.parametrize(
    "ids, offsets",
    [
        ([], None),
        ([[]], None),
        ([[5], []], None),
        ([5, 6], [0, 1]),
        ([5, 6], [0, 2, 2]),
        ([5, 6], [1, 2]),
        ([5, 6], [0, 3]),
        ([5, 6], [0]),
        ([5, 6, 7], [0, 2, 1, 3]),
        ([5, 10_000], None),
        ([-1], None),
        ([2**40], None),
        ([1.5], None),
        (np.zeros((2, 2, 2), int), None),
        (list(range(5, 46)), None),  # one more than there are positions
    ],
)
def test_impossible_token_ids(bert, ids, offsets):
    with pytest.raises((DataError, ShapeError)):
        bert.forward(ids, offsets)
    assert bert.forward([5]).shape == (1, 48), "and the model still works"


def test_unknown_output(bert):
    with pytest.raises(AerogelError, match="output: expected one of hidden, embedding, pooled, got 'banana'"):
        bert.forward([5], output="banana")


def test_what_a_model_is_not_for(bert, llama):
    with pytest.raises(UnsupportedModelError, match="not a generating model"):
        bert.generate("the cat")
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        llama.encode("the cat")
    with pytest.raises(UnsupportedModelError, match="not a classifier"):
        bert.scores("the cat")


def test_threads_share_a_model(bert):
    texts = [" ".join(["cat", "dog", "tree"][: 1 + i % 3]) for i in range(24)]
    alone = [bert.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(bert.encode, texts * 3))
    for got, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_can_run_the_model(bert_folder):
    code = (
        "import os, sys, aerogel\n"
        "model = aerogel.load(sys.argv[1]); before = model.encode('the cat')\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if (model.encode('the cat') == before).all() else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(bert_folder)], timeout=60).returncode == 0


def test_generate_text(llama):
    prompt = "the cat sat on"
    tokens = list(llama.generate_tokens(llama.tokenizer.encode([prompt])[0], 12))
    pieces = []
    text = llama.generate(prompt, max_new_tokens=12, stream=pieces.append)
    assert text == llama.tokenizer.decode(tokens) == "".join(pieces)
    assert text == llama.generate(prompt, max_new_tokens=12)
    assert llama.generate(prompt, max_new_tokens=0) == ""


def test_stream_true_prints(llama, capsys):
    text = llama.generate("the cat", max_new_tokens=5, stream=True)
    assert capsys.readouterr().out == text


def test_the_cache_changes_nothing(llama):
    ids = random_ids(tiny_models.LLAMA["vocab_size"], 4)
    tokens = list(llama.generate_tokens(ids, 10, stop=()))
    for i, token in enumerate(tokens):
        assert llama.forward([ids + tokens[:i]], last_only=True)[0].argmax() == token


def test_it_stops_at_the_end_token(llama):
    ids = random_ids(tiny_models.LLAMA["vocab_size"], 4)
    tokens = list(llama.generate_tokens(ids, 10, stop=()))
    end = tokens[-1]
    assert list(llama.generate_tokens(ids, 10, stop=[end])) == tokens[: tokens.index(end)]


def test_it_stops_when_the_positions_are_used_up(llama, caplog):
    ids = random_ids(tiny_models.LLAMA["vocab_size"], 60)
    with caplog.at_level(logging.WARNING, "aerogel"):
        assert len(list(llama.generate_tokens(ids, 50, stop=()))) == 5
    assert "positions for 5 new tokens" in caplog.text
    with pytest.raises(ShapeError, match="expected at most 64 tokens, got 65"):
        llama.generate_tokens([5] * 65)


def test_a_generation_that_is_given_up_leaves_nothing_behind(llama):
    ids = random_ids(tiny_models.LLAMA["vocab_size"], 4)
    expected = list(llama.generate_tokens(ids, 8, stop=()))
    started = llama.generate_tokens(ids, 8, stop=())
    next(started)
    started.close()
    assert list(llama.generate_tokens(ids, 8, stop=())) == expected


def test_sampling_repeats_with_its_seed(llama):
    def run(seed):
        return llama.generate("the cat", 16, temperature=1.5, top_k=10, top_p=0.9, seed=seed)

    assert run(1) == run(1)
    assert len({run(seed) for seed in range(5)}) > 1
    assert llama.generate("the cat", 8, temperature=1.0, top_k=1, seed=3) == llama.generate("the cat", 8)


def test_empty_prompts(llama, tmp_path):
    assert isinstance(llama.generate("", 4), str)  # begins with the model's first token
    config = {**tiny_models.LLAMA, "bos_token_id": None}
    model = aerogel.load(tiny_models.write(tmp_path, config, tiny_models.llama_weights(config)))
    with pytest.raises(DataError, match="the prompt is empty"):
        model.generate("")


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}, {"max_new_tokens": -1}],
)
def test_impossible_sampling(llama, wrong):
    with pytest.raises(AerogelError, match=f"{next(iter(wrong))}: expected"):
        llama.generate("the cat", **wrong)


def test_forced_formats(bert_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "sparse", sparsity=0.9, method="magnitude")
    formats = {}
    results = []
    for format in ("auto", "dense", "gathered_q8"):
        model = aerogel.load(tmp_path / "sparse", format=format)
        formats[format] = {form["format"] for step in model.describe() for form in step.get("forms", ())}
        results.append(model.encode(TEXTS))
    assert formats["dense"] == {"dense_q8"} and formats["gathered_q8"] == {"gathered_q8"}
    for got in results[1:]:
        np.testing.assert_allclose(got, results[0], atol=1e-6)
    with pytest.raises(AerogelError, match="banana"):
        aerogel.load(bert_folder, format="banana")


def test_facts(bert, bert_folder, caplog):
    assert bert.threads >= 1 and bert.nbytes > 0 and bert.hidden_size == 48
    assert bert.config["model_type"] == "bert" and "embedding" in repr(bert)
    assert aerogel.load(bert_folder, threads=1).threads == 1
    with pytest.raises(AerogelError, match="threads: expected at least 1"):
        aerogel.load(bert_folder, threads=0)


def test_isa_and_threads_are_logged_once(bert_folder):
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO)\n"
        "import aerogel\n"
        "aerogel.load(sys.argv[1]); aerogel.load(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(bert_folder)], capture_output=True, text=True, check=True)
    assert run.stderr.count(f"aerogel runs on {aerogel.isa()} with ") == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.encode(None), "texts: expected a list of strings, got None"),
        (lambda m: m.encode(["a", 3]), "texts: expected strings, got int at 1"),
        (lambda m: m.encode(7), "texts: expected a list of strings, got 7"),
        (lambda m: m.encode("a", batch_tokens=1.5), "batch_tokens: expected a whole number, got 1.5"),
        (lambda m: m.encode("a", batch_tokens=0), "batch_tokens: expected at least 1, got 0"),
    ],
)
def test_texts_that_are_none(bert_folder, call, said):
    with pytest.raises(AerogelError, match=said):
        call(aerogel.load(bert_folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"max_new_tokens": -1}, "max_new_tokens: expected at least 0, got -1"),
        ({"max_new_tokens": "9"}, "max_new_tokens: expected a whole number, got '9'"),
    ],
)
def test_generation_that_cannot_be(llama_folder, options, said):
    with pytest.raises(AerogelError, match=said):
        aerogel.load(llama_folder).generate("the cat", **options)


@pytest.mark.parametrize("format", [None, 3, ["dense"]])
def test_a_format_is_a_name(bert_folder, format):
    with pytest.raises(AerogelError, match="format: expected a string"):
        aerogel.load(bert_folder, format=format)


PROMPTS = {"prompts": {"query": "the big ", "passage": ""}, "default_prompt_name": "query"}


@pytest.fixture
def prompted(tmp_path, bert_folder):
    folder = shutil.copytree(bert_folder, tmp_path / "prompted")
    (folder / "config_sentence_transformers.json").write_text(json.dumps(PROMPTS))
    return folder


def test_prompts_stand_before_texts(prompted, bert_folder, tmp_path):
    plain = aerogel.load(bert_folder)
    aerogel.compress(prompted, tmp_path / "packed", sparsity=0, quant="none")
    for model in (aerogel.load(prompted), aerogel.load(tmp_path / "packed")):  # a packed model keeps them
        assert model.prompts == PROMPTS["prompts"]
        for options, text in (
            ({}, "the big cat"),
            ({"prompt_name": "query"}, "the big cat"),
            ({"prompt_name": "passage"}, "cat"),
            ({"prompt": ""}, "cat"),
            ({"prompt": "a red "}, "a red cat"),
        ):
            np.testing.assert_allclose(model.encode("cat", **options), plain.encode(text), atol=1e-6)
            np.testing.assert_allclose(model.encode(["cat", "dog"], **options)[0], plain.encode(text), atol=1e-6)
    np.testing.assert_allclose(plain.encode("cat", prompt="the big "), plain.encode("the big cat"), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_name": "other"}, "prompt_name: expected one of query, passage, got 'other'"),
        ({"prompt_name": "query", "prompt": "x"}, "expected one of prompt and prompt_name, got both"),
        ({"prompt": 3}, "prompt: expected a string, got 3"),
    ],
)
def test_prompts_that_are_none(prompted, options, said):
    with pytest.raises(AerogelError, match=said):
        aerogel.load(prompted).encode("cat", **options)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompts": ["a"]}, "prompts: expected an object of strings"),
        ({"prompts": {"a": 1}}, "prompts: expected an object of strings"),
        ({"prompts": {"a": "x"}, "default_prompt_name": "b"}, "default_prompt_name: expected one of a, got 'b'"),
    ],
)
def test_broken_prompts(prompted, settings, said):
    (prompted / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(aerogel.ConfigError, match=said):
        aerogel.load(prompted)


def test_prompts_that_do_not_count_are_refused(prompted):
    file = prompted / "1_Pooling" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "include_prompt": False}))
    model = aerogel.load(prompted)
    with pytest.raises(aerogel.UnsupportedModelError, match="include_prompt"):
        model.encode("cat")
    assert model.encode("cat", prompt="").shape == (48,)
