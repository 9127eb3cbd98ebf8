import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.compression.recipe import Prune, Quantize, Recipe
from aerogel.errors import CheckpointError, DataError, RecipeError
from aerogel.numbers.bf16 import widen

from .. import tiny_models
from ..reference import quantize as reference

QUERY = "encoder.layer.0.attention.self.query.weight"
UP = "encoder.layer.1.intermediate.dense.weight"


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("quant", ["int8", "bf16", "none"])
def test_round_trip_of_a_bert(bert_folder, tmp_path, sparsity, quant):
    report = aerogel.compress(bert_folder, tmp_path / "out", sparsity=sparsity, method="magnitude", quant=quant)
    source, packed = open_checkpoint(bert_folder), open_checkpoint(tmp_path / "out")
    assert packed.kind == "packed"
    for tensor in report.tensors:
        w, got = source.array(tensor.name), packed.array(tensor.name)
        if tensor.role == "kept":
            assert np.array_equal(w, got)
            continue
        if tensor.role == "linear":
            zeros = round(sparsity * w.size)
            found = w.size - np.count_nonzero(got)
            # A kept weight may quantize to zero.
            assert found == zeros if quant == "none" else found >= zeros
            w = np.where(got != 0, w, 0) if quant != "int8" else w
        if quant == "none":
            assert np.array_equal(w, got)
        elif quant == "bf16":
            assert np.array_equal(widen(reference.bf16(w)), got)
        elif tensor.role == "embedding":
            codes, scales = reference.int8(w)
            assert np.array_equal(got, codes * scales[:, None])
        else:
            kept = got != 0
            assert (np.abs(w - got)[kept] <= np.abs(w).max(1, keepdims=True).repeat(w.shape[1], 1)[kept] / 253).all()
        assert tensor.sparsity == pytest.approx(1 - np.count_nonzero(got) / got.size)
    assert report.sparsity == pytest.approx(sparsity, abs=0.02)
    assert report.file_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert sum(t.bytes for t in report.tensors) <= report.file_bytes


def test_nothing_is_removed_unless_asked_for(bert_folder, tmp_path):
    report = aerogel.compress(bert_folder, tmp_path / "dense")
    assert report.sparsity < 0.01 and report.notes == []
    sparse = aerogel.compress(bert_folder, tmp_path / "sparse", 0.5, quant="none", method="magnitude")
    assert "with calibration texts" in sparse.notes[0]
    again = aerogel.compress(tmp_path / "sparse", tmp_path / "again")  # with the zeros that it has
    assert again.sparsity == pytest.approx(0.5, abs=0.01) and again.notes == []


@pytest.mark.parametrize(
    "pattern, said", [("3x1", True), ("1x2", True), ("8:64x3", True), ("8x1", False), ("1x4", False)]
)
def test_a_pattern_that_no_kernel_uses_is_said(bert_folder, tmp_path, caplog, pattern, said):
    sparsity = None if ":" in pattern else 0.5
    report = aerogel.compress(bert_folder, tmp_path / "m", sparsity=sparsity, pattern=pattern, method="magnitude")
    assert any("no kernel uses blocks" in note for note in report.notes) == said
    assert ("no kernel uses blocks" in caplog.text) == said


def test_a_threshold_that_takes_most_weights_needs_texts_too(bert_folder, tmp_path):
    with pytest.raises(RecipeError, match="100% sparsity without calibration texts"):
        aerogel.compress(bert_folder, tmp_path / "out", recipe={"prune": {"threshold": 100.0}})
    recipe = {"prune": {"threshold": 100.0, "method": "magnitude"}}
    assert aerogel.compress(bert_folder, tmp_path / "out", recipe=recipe).sparsity == 1


def test_windows(bert_folder, tmp_path):
    report = aerogel.compress(bert_folder, tmp_path / "out", pattern="16:64", method="magnitude")
    assert report.recipe["prune"]["pattern"] == "16:64" and report.recipe["prune"]["sparsity"] == 0.75
    kept = open_checkpoint(tmp_path / "out").array("encoder.layer.0.output.dense.weight") != 0  # [48, 100]
    assert (kept[:, :64].sum(1) <= 16).all() and (kept[:, 64:].sum(1) <= 9).all()


def test_what_is_in_the_folder(bert_folder, tmp_path):
    out = tmp_path / "deep" / "out"
    aerogel.compress(bert_folder, out, sparsity=0.9, method="magnitude")
    config = json.loads((out / "config.json").read_text())
    assert config.pop("quantization_config") == {
        "quant_method": "aerogel",
        "format_version": 4,
        "aerogel_version": aerogel.__version__,
        "recipe": Recipe(
            prune=Prune(method="magnitude", sparsity=0.9),
            quantize=Quantize(head="int8", embeddings="int8", rounding="nearest"),
        ).as_dict(),
        "sources": {"aerogel": aerogel.__version__, "numpy": np.__version__},
    }
    assert config == tiny_models.BERT
    tensors = load_file(out / "model.safetensors")
    assert tensors[UP + "_bitmask"].dtype == np.uint8 and tensors[UP + "_bitmask"].shape == (100, 6)
    assert tensors[UP + "_values"].dtype == np.int8 and tensors[UP + "_scale"].shape == (100,)
    assert tensors["embeddings.word_embeddings.weight"].dtype == np.int8
    assert [path.name for path in out.parent.iterdir()] == ["out"], "nothing temporary is left"


def test_tokenizer_and_pooling_come_along(bert_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "out", sparsity=0, quant="none")
    source, packed = open_checkpoint(bert_folder), open_checkpoint(tmp_path / "out")
    assert packed.pooling == source.pooling and packed.max_tokens == source.max_tokens == 32
    texts = ["the cat sat on the mat", "xyzzy"]
    assert packed.tokenizer().encode(texts) == source.tokenizer().encode(texts)
    assert np.array_equal(aerogel.load(bert_folder).encode(texts), aerogel.load(tmp_path / "out").encode(texts))


def test_a_transformer_in_a_subfolder(tmp_path):
    config = tiny_models.BERT
    source = tiny_models.write(tmp_path / "source", config, tiny_models.bert_weights(config), pooling=("cls", False))
    inner = source / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "sentence_bert_config.json"):
        (source / name).rename(inner / name)
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (source / "modules.json").write_text(json.dumps(modules))
    aerogel.compress(source, tmp_path / "out", sparsity=0, quant="none")
    assert np.array_equal(aerogel.load(source).encode("the cat"), aerogel.load(tmp_path / "out").encode("the cat"))


def test_the_same_bytes_whatever_the_threads(bert_folder, tmp_path):
    for threads in (1, 4):
        aerogel.compress(bert_folder, tmp_path / str(threads), sparsity=0.5, threads=threads, method="magnitude")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_zeros_stay_zeros(tmp_path):
    weights = tiny_models.bert_weights(tiny_models.BERT)
    random = np.random.default_rng(7)
    for name in weights:
        if name.startswith("encoder") and weights[name].ndim == 2:
            weights[name][random.random(weights[name].shape) < 0.9] = 0
    source = tiny_models.write(tmp_path / "source", tiny_models.BERT, weights)
    for sparsity in (0, 0.5):
        report = aerogel.compress(source, tmp_path / "out", sparsity=sparsity, overwrite=True, method="magnitude")
        assert report.sparsity >= 0.85
        stored = load_file(tmp_path / "out" / "model.safetensors")
        assert QUERY + "_bitmask" in stored and QUERY not in stored
        got = open_checkpoint(tmp_path / "out").array(QUERY)
        assert not got[weights[QUERY] == 0].any()


def test_compressing_a_packed_model_again(bert_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "a", sparsity=0.5, method="magnitude")
    aerogel.compress(tmp_path / "a", tmp_path / "b", sparsity=0.5, method="magnitude")
    a, b = load_file(tmp_path / "a" / "model.safetensors"), load_file(tmp_path / "b" / "model.safetensors")
    for name in a:
        if not name.endswith("_scale"):
            assert np.array_equal(a[name], b[name]), name


def test_a_packed_model_is_replaced_and_nothing_else(bert_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    aerogel.compress(bert_folder, out, sparsity=0.5, method="magnitude")  # an empty folder is fine
    with pytest.raises(RecipeError, match="a model stands there: .* replace it with --overwrite"):
        aerogel.compress(bert_folder, out, sparsity=0.9, method="magnitude")
    aerogel.compress(bert_folder, out, sparsity=0.9, method="magnitude", overwrite=True)
    assert json.loads((out / "config.json").read_text())["quantization_config"]["recipe"]["prune"]["sparsity"] == 0.9
    other = tmp_path / "other"
    shutil.copytree(bert_folder, other)
    before = sorted(path.name for path in other.iterdir())
    for target in (other, other / "config.json"):
        with pytest.raises(RecipeError, match="not overwritten|not a folder"):
            aerogel.compress(bert_folder, target, overwrite=True)
    assert sorted(path.name for path in other.iterdir()) == before


def test_an_interrupted_run_loses_nothing(bert_folder, tmp_path):
    out = tmp_path / "out"
    aerogel.compress(bert_folder, out, sparsity=0.5, method="magnitude")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    def stop(done, total, name):
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aerogel.compress(bert_folder, out, sparsity=0.9, progress=stop, method="magnitude", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_progress_counts_every_tensor(bert_folder, tmp_path):
    seen = []
    report = aerogel.compress(bert_folder, tmp_path / "out", progress=lambda *step: seen.append(step))
    assert seen == [(i + 1, len(report.tensors), t.name) for i, t in enumerate(report.tensors)]


@pytest.mark.parametrize(
    "recipe, message",
    [
        ({"sparsity": 1.5}, "sparsity: expected a number from 0 to 1"),
        ({"pattern": "4:2"}, "pattern: N of N:M: expected 1 to 2, got 4"),
        ({"pattern": "8:64", "sparsity": 0.1}, "contradicts the pattern"),
        ({"quant": "int3"}, "'int3' is unknown"),
        ({"threads": 0}, "threads: expected at least 1"),
    ],
)
def test_impossible_recipes(bert_folder, tmp_path, recipe, message):
    with pytest.raises(RecipeError, match=message):
        aerogel.compress(bert_folder, tmp_path / "out", **recipe)
    assert not (tmp_path / "out").exists()


def test_broken_sources(tmp_path):
    with pytest.raises(CheckpointError):
        aerogel.compress(tmp_path / "nothing", tmp_path / "out")
    source = tiny_models.write(tmp_path / "nan", tiny_models.BERT, tiny_models.bert_weights(tiny_models.BERT))
    weights = load_file(source / "model.safetensors")
    weights[UP][3, 5] = np.nan
    save_file(weights, source / "model.safetensors")
    with pytest.raises(DataError, match=r"encoder\.layer\.1\.intermediate\.dense\.weight"):
        aerogel.compress(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_decoder_keeps_its_head_dense(llama_folder, tmp_path):
    config = {**tiny_models.LLAMA, "tie_word_embeddings": False}
    source = tiny_models.write(tmp_path / "source", config, tiny_models.llama_weights(config))
    report = aerogel.compress(source, tmp_path / "out", sparsity=0.9, method="magnitude")
    head = next(t for t in report.tensors if t.name == "lm_head.weight")
    assert head.role == "head" and head.sparsity < 0.1
    aerogel.compress(llama_folder, tmp_path / "tied", sparsity=0)
    dense, packed = aerogel.load(llama_folder), aerogel.load(tmp_path / "tied")
    ids = dense.tokenizer.encode(["the cat sat on the mat"])[0]
    a, b = dense.forward(ids), packed.forward(ids)
    assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > 0.995


def test_bf16_on_disk_and_in_memory(bert_folder, tmp_path):
    for sparsity, format in ((0.0, "dense_bf16"), (0.6, "masked_bf16")):
        aerogel.compress(
            bert_folder, tmp_path / "out", sparsity=sparsity, method="magnitude", overwrite=True, quant="bf16"
        )
        file = SafetensorsFile(tmp_path / "out" / "model.safetensors")
        stored = UP if sparsity == 0 else UP + "_values"
        assert file.entries[stored].dtype == "BF16" and UP + "_scale" not in file.entries
        assert (UP + "_bitmask" in file.entries) == (sparsity > 0)
        assert file.entries["embeddings.word_embeddings.weight"].dtype == "BF16"
        packed = aerogel.load(tmp_path / "out")
        assert {form["format"] for step in packed.describe() for form in step.get("forms", ())} == {format}
    a, b = aerogel.load(bert_folder).encode("the cat"), aerogel.load(tmp_path / "out", format="dense").encode("the cat")
    assert np.allclose(b, packed.encode("the cat"), atol=1e-5) and a.shape == b.shape


def test_a_bf16_decoder(llama_folder, tmp_path):
    aerogel.compress(llama_folder, tmp_path / "out", sparsity=0, quant="bf16")
    dense, packed = aerogel.load(llama_folder), aerogel.load(tmp_path / "out")
    ids = dense.tokenizer.encode(["the cat sat on the mat"])[0]
    a, b = dense.forward(ids), packed.forward(ids)
    assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_minilm_in_bf16(minilm, tmp_path):
    texts = ["A cat sat on the mat.", "Interest rates rose again.", "naïve café", ""]
    report = aerogel.compress(minilm, tmp_path / "out", sparsity=0, quant="bf16")
    assert report.file_bytes < 0.51 * report.dense_bytes
    expected = aerogel.load(minilm).encode(texts)
    assert np.abs(aerogel.load(tmp_path / "out").encode(texts) - expected).max() < 2e-3


def test_minilm_at_80_percent(minilm, tmp_path):
    report = aerogel.compress(minilm, tmp_path / "out", sparsity=0.8, method="magnitude")
    assert report.sparsity == pytest.approx(0.8, abs=0.001)
    assert report.file_bytes < 17e6


@pytest.mark.parametrize("pack", ["plain", "small"])
@pytest.mark.parametrize("quant", ["int8", "int4:g32", "codebook:16", "bf16"])
def test_more_sparsity_is_never_a_larger_file(bert_folder, tmp_path, quant, pack):
    sizes = [
        aerogel.compress(
            bert_folder, tmp_path / "out", s / 10, method="magnitude", overwrite=True, quant=quant, pack=pack
        ).file_bytes
        for s in range(11)
    ]
    assert sizes == sorted(sizes, reverse=True)


def packed_again(source, out):
    return aerogel.compress(source, out, sparsity=0.5, overwrite=True, method="magnitude")


def test_a_source_is_not_replaced_by_its_own_result(tmp_path, bert_folder):
    packed_again(bert_folder, tmp_path / "packed")
    before = {file: file.read_bytes() for file in (tmp_path / "packed").rglob("*") if file.is_file()}
    (tmp_path / "link").symlink_to(tmp_path / "packed")
    for source in ("packed", "link"):
        with pytest.raises(RecipeError, match="packed: is the model that is read: write to another folder"):
            packed_again(tmp_path / source, tmp_path / "packed")
    assert before == {file: file.read_bytes() for file in (tmp_path / "packed").rglob("*") if file.is_file()}


def test_a_folder_around_the_source_is_not_replaced(tmp_path, bert_folder):
    packed_again(bert_folder, tmp_path / "packed")
    inside = tmp_path / "packed" / "1_Pooling" / "source"
    shutil.copytree(bert_folder, inside)
    with pytest.raises(RecipeError, match="holds what aerogel did not write.*1_Pooling/source"):
        packed_again(inside, tmp_path / "packed")
    assert inside.exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "LICENSES/a", "1_Pooling/more.json", ".git/HEAD", "checkpoint-1/config.json"]
)
def test_files_of_others_are_not_deleted(tmp_path, bert_folder, name):
    packed_again(bert_folder, tmp_path / "packed")
    packed_again(bert_folder, tmp_path / "packed")  # its own files may go
    other = tmp_path / "packed" / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("mine")
    with pytest.raises(RecipeError, match="holds what aerogel did not write") as caught:
        packed_again(bert_folder, tmp_path / "packed")
    assert name in str(caught.value) and other.read_text() == "mine"


def test_a_folder_called_licenses_is_no_licence(tmp_path, bert_folder):
    source = shutil.copytree(bert_folder, tmp_path / "source")
    (source / "LICENSES").mkdir()
    (source / "LICENSE.md").write_text("free")
    packed_again(source, tmp_path / "packed")
    assert (tmp_path / "packed" / "LICENSE.md").read_text() == "free" and not (
        tmp_path / "packed" / "LICENSES"
    ).exists()
