"""Distillation of tiny models: what is written, what is learned, and that an interrupted run ends like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from safetensors.numpy import load_file  # noqa: E402

import aerogel  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.errors import AerogelError, CheckpointError, DataError, RecipeError, ShapeError  # noqa: E402
from aerogel.prune import Unstructured, parse_pattern  # noqa: E402
from aerogel.quantize import scheme  # noqa: E402
from aerogel.train import Options, distill  # noqa: E402
from aerogel.train.distillation import snapshot_of  # noqa: E402
from aerogel.train.loop import Loop  # noqa: E402
from aerogel.train.pruners import on_the_way  # noqa: E402
from aerogel.train.rate import RATES  # noqa: E402

from .. import tiny_models  # noqa: E402

TEXTS = [" ".join(np.random.default_rng(i).choice(tiny_models.WORDS, 3 + i % 9).tolist()) for i in range(90)]
QUICK = {"batch_tokens": 96, "threads": 1, "log_seconds": 0.0}


def zeros(folder: Path) -> dict[str, np.ndarray]:
    return {n: a == 0 for n, a in load_file(folder / "model.safetensors").items() if "encoder" in n and a.ndim == 2}


def sparsity(folder: Path) -> float:
    masks = zeros(folder).values()
    return sum(int(m.sum()) for m in masks) / sum(m.size for m in masks)


def test_the_student_learns_and_keeps_its_zeros(bert_folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    done = distill(
        bert_folder, tmp_path / "out", TEXTS, options=Options(steps=60, sparsity=0.5, stages=6, lr=3e-3, **QUICK),
        report=lines.append,
    )  # fmt: skip
    assert done.steps == 60 and done.sparsity == pytest.approx(0.5, abs=2e-3)
    assert sparsity(tmp_path / "out") == pytest.approx(0.5, abs=2e-3)
    assert len(lines) == 60 and "sparsity 50.0%" in lines[-1] and "hidden" in lines[-1] and "steps/s" in lines[-1]
    aerogel.compress(tmp_path / "out", tmp_path / "packed", sparsity=0)
    dense, student = aerogel.load(bert_folder).encode(TEXTS), aerogel.load(tmp_path / "packed").encode(TEXTS)
    plain = tmp_path / "plain"
    aerogel.compress(bert_folder, plain, sparsity=0.5, method="magnitude")
    untrained = aerogel.load(plain).encode(TEXTS)
    assert (dense * student).sum(1).mean() > (dense * untrained).sum(1).mean() + 0.02
    assert not snapshot_of(tmp_path / "out").exists()


def test_the_folder_is_complete(bert_folder: Path, tmp_path: Path) -> None:
    distill(bert_folder, tmp_path / "out", TEXTS, options=Options(steps=2, sparsity=0.5, **QUICK))
    ours, source = open_checkpoint(tmp_path / "out"), open_checkpoint(bert_folder)
    assert ours.names() == source.names(), "tensors that were not trained belong to the model too"
    np.testing.assert_array_equal(ours.array("pooler.dense.weight"), source.array("pooler.dense.weight"))
    assert ours.pooling == source.pooling and ours.tokenizer().encode(TEXTS[:3]) == source.tokenizer().encode(TEXTS[:3])
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["steps"] == 2 and record["recipe"]["sparsity"] == 0.5 and record["recipe"]["seed"] == 0
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    _, info = transformers.BertModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


class Stopped(Exception):
    pass


def interrupted(patch: pytest.MonkeyPatch, source: Path, out: Path, options: Options, stop: int) -> None:
    """A run that ends before step `stop`, and leaves its snapshot."""
    step = Loop._step

    def until_then(self: Loop, batch, progress: float) -> None:
        if self.clock.step == stop:
            raise Stopped
        step(self, batch, progress)

    with patch.context() as meanwhile:
        meanwhile.setattr(Loop, "_step", until_then)
        with pytest.raises(Stopped):
            distill(source, out, TEXTS, options=options)


@pytest.mark.parametrize("cached", [True, False], ids=["kept-teacher", "live-teacher"])
@pytest.mark.parametrize("stop, stages", [(3, 5), (23, 5), (9, None)])
def test_a_resumed_run_is_the_same_to_the_bit(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, stages: int | None, cached: bool
) -> None:
    options = Options(
        steps=24, sparsity=0.6, stages=stages, relation=0.5, quant_from=0.5, save_minutes=1e-9, dropout=0.1,
        cache_bytes=1 << 30 if cached else 0, accumulate=1 if cached else 2, **QUICK,
    )  # fmt: skip
    distill(bert_folder, tmp_path / "whole", TEXTS, options=options)
    interrupted(monkeypatch, bert_folder, tmp_path / "parts", options, stop)
    assert snapshot_of(tmp_path / "parts").exists() and not (tmp_path / "parts").exists()
    with pytest.raises(RecipeError, match="snapshot of an earlier run"):
        distill(bert_folder, tmp_path / "parts", TEXTS, options=options)
    torch.rand(7)  # whatever else the process does in between
    done = distill(bert_folder, tmp_path / "parts", TEXTS, options=options, resume=True)
    assert done.steps == 24
    for file in ("model.safetensors", "training.json"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_pieces_of_a_run_are_the_run_to_the_bit(bert_folder: Path, tmp_path: Path) -> None:
    """The rate is found in the first piece and stays; nothing is written before the last."""
    options = {"steps": 6, "sparsity": 0.6, "quant_from": 0.5, "dropout": 0.1, "lr": "auto", "accumulate": 2, **QUICK}
    said: list[str] = []
    distill(bert_folder, tmp_path / "whole", TEXTS, options=Options(**options), report=said.append)
    assert any(line.startswith("learning rate ") for line in said)
    pieces = Options(**options, piece_minutes=1e-9)
    done = distill(bert_folder, tmp_path / "parts", TEXTS, options=pieces)
    assert not done.finished and done.steps == 1 and done.path == str(snapshot_of(tmp_path / "parts"))
    counts = [done.steps]
    while not done.finished:
        assert not (tmp_path / "parts").exists()
        done = distill(bert_folder, tmp_path / "parts", TEXTS, options=pieces, resume=True)
        counts.append(done.steps)
    assert counts == [1, 2, 3, 4, 5, 6]
    for file in ("model.safetensors", "training.json"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert json.loads((tmp_path / "parts" / "training.json").read_text())["lr"] in RATES


def test_texts_of_a_column_are_read_once(bert_folder: Path, tmp_path: Path) -> None:
    options = Options(steps=2, sparsity=0.5, **QUICK)
    distill(bert_folder, tmp_path / "list", TEXTS, options=options)
    distill(bert_folder, tmp_path / "rows", ({"body": text} for text in TEXTS), options=options, column="body")
    assert (tmp_path / "rows/model.safetensors").read_bytes() == (tmp_path / "list/model.safetensors").read_bytes()


def test_a_snapshot_of_another_run_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    snapshot_of(tmp_path / "out").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="expected the snapshot of a training run"):
        distill(bert_folder, tmp_path / "out", TEXTS, options=Options(steps=3, **QUICK), resume=True)
    snapshot_of(tmp_path / "out").unlink()
    with pytest.raises(CheckpointError, match="no snapshot"):
        distill(bert_folder, tmp_path / "out", TEXTS, options=Options(steps=3, **QUICK), resume=True)
    from aerogel.train import snapshot

    snapshot.write(tmp_path / "s", {"steps": 3, "lr": 0.1}, {"w": torch.arange(1000.0)})
    data = (tmp_path / "s").read_bytes()
    at = data.index(torch.arange(1000.0).numpy().tobytes()) + 400
    (tmp_path / "s").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(CheckpointError, match="damaged: the checksum of .*data/0 is another one|Bad CRC-32"):
        snapshot.read(tmp_path / "s", {"steps": 3, "lr": 0.1})
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(RecipeError, match=r"lr: 0.1 there, 0.2 here"):
        snapshot.read(tmp_path / "s", {"steps": 3, "lr": 0.2})
    assert [path.name for path in tmp_path.iterdir()] == ["s"], "no partial files"


def test_zeros_of_the_source_stay_and_the_teacher_may_be_another_model(bert_folder: Path, tmp_path: Path) -> None:
    distill(bert_folder, tmp_path / "half", TEXTS, options=Options(steps=2, sparsity=0.5, stages=1, **QUICK))
    before = zeros(tmp_path / "half")
    options = Options(steps=6, sparsity=0.75, stages=3, **QUICK)
    distill(tmp_path / "half", tmp_path / "more", TEXTS, teacher=bert_folder, options=options)
    after = zeros(tmp_path / "more")
    assert all((after[name] >= before[name]).all() for name in before)
    assert sparsity(tmp_path / "more") == pytest.approx(0.75, abs=2e-3)
    distill(tmp_path / "half", tmp_path / "same", TEXTS, bert_folder, Options(steps=3, sparsity=0, **QUICK))
    assert all((zeros(tmp_path / "same")[name] == before[name]).all() for name in before)


@pytest.mark.parametrize("pattern, kept", [("unstructured", 0.5), ("2:4", 0.5), ("8:64", None)])
def test_pruned_at_once_is_what_compress_makes(bert_folder: Path, tmp_path: Path, pattern: str, kept: float) -> None:
    """Before the first step the student is the float32 model that `compress` with the same texts gives."""
    import aerogel

    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    options = Options(steps=1, sparsity=kept, pattern=pattern, lr=1e-12, **QUICK)
    said: list[str] = []
    distill(bert_folder, tmp_path / "out", TEXTS, options=options, report=said.append)
    assert said[0].startswith("pruned, every layer fitted to the texts")
    recipe = {"calibration": {"files": [str(texts)]}, "prune": {"pattern": pattern, "sparsity": kept}}
    aerogel.compress(bert_folder, tmp_path / "packed", quant="none", recipe=recipe)
    learnt, packed = aerogel.load(tmp_path / "out"), aerogel.load(tmp_path / "packed")
    np.testing.assert_allclose(learnt.encode(TEXTS[:5]), packed.encode(TEXTS[:5]), atol=1e-5)
    assert sparsity(tmp_path / "out") == pytest.approx(0.5 if kept else 1 - 8 / 64, abs=0.02 if kept else 0.35)


def test_what_is_not_trained_is_the_sources_own(bert_folder: Path, tmp_path: Path) -> None:
    """The pooler, which no output needs, and everything else besides the linears is still there."""
    distill(bert_folder, tmp_path / "out", TEXTS, options=Options(steps=2, sparsity=0.5, **QUICK))
    before = load_file(bert_folder / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert set(after) == set(before)
    for name in before:
        if "pooler" in name or "embeddings.word" in name:
            np.testing.assert_array_equal(after[name], before[name])


def test_a_resumed_run_has_the_sparsity_that_it_began_with(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(steps=9, sparsity=0.6, save_minutes=1e-9, **QUICK)
    interrupted(monkeypatch, bert_folder, tmp_path / "out", options, stop=4)
    other = Options(**{**vars(options), "sparsity": 0.7})
    with pytest.raises(RecipeError, match=r"sparsity: 0.6 there, 0.7 here"):
        distill(bert_folder, tmp_path / "out", TEXTS, options=other, resume=True)


def test_a_pattern_is_kept_and_approached_from_within(bert_folder: Path, tmp_path: Path) -> None:
    options = Options(steps=8, sparsity=0.8, pattern="8:64", stages=4, **QUICK)
    with pytest.raises(RecipeError, match="contradicts the pattern"):
        distill(bert_folder, tmp_path / "out", TEXTS, options=options)
    distill(bert_folder, tmp_path / "out", TEXTS, options=Options(**{**vars(options), "sparsity": None}))
    for mask in zeros(tmp_path / "out").values():
        assert ((~mask[:, :64]).sum(1) == np.minimum(8, -(-8 * min(64, mask.shape[1]) // 64))).all()


def test_masks_on_the_way_to_a_pattern_lie_inside_each_other() -> None:
    score = np.random.default_rng(0).random((10, 128)).astype(np.float32)
    pattern = parse_pattern("8:64")
    masks = [on_the_way(score, pattern, s) for s in (0.2, 0.5, 0.8, 0.875)]
    assert all((a >= b).all() for a, b in zip(masks, masks[1:]))
    assert (masks[-1] == pattern.keep(score)).all()
    assert [1 - m.mean() for m in masks[:3]] == pytest.approx([0.2, 0.5, 0.8], abs=1e-3)


def test_packed_codes_are_those_of_the_training(bert_folder: Path, tmp_path: Path) -> None:
    distill(bert_folder, tmp_path / "out", TEXTS, options=Options(steps=6, sparsity=0.5, quant_from=0.0, **QUICK))
    aerogel.compress(tmp_path / "out", tmp_path / "packed", sparsity=0)
    from aerogel.train.quantization import rounded

    name = "encoder.layer.0.output.dense.weight"
    weight = open_checkpoint(tmp_path / "out").array(name)
    packed = open_checkpoint(tmp_path / "packed").weight(name)
    np.testing.assert_array_equal(packed.dense(), rounded(torch.from_numpy(np.array(weight)), "int8").numpy())
    np.testing.assert_array_equal(packed.dense(), scheme("int8")(weight).dense())


def test_any_pruner_can_be_used_and_sees_calibration_where_it_asks(bert_folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, float]] = []

    class Pruner:
        def prepare(self, inputs) -> None:
            self.inputs = inputs(200)

        def __call__(self, name: str, weight: np.ndarray, sparsity: float) -> tuple[np.ndarray, np.ndarray]:
            tokens, gram, largest = self.inputs[name]
            assert tokens >= 96 and gram.shape == 2 * (weight.shape[1],) and len(largest) == weight.shape[1]
            calls.append((name, sparsity))
            mask = Unstructured(sparsity).keep(np.abs(weight) * np.sqrt(gram.diagonal()))
            return np.where(mask, 2 * weight, np.float32(0)).astype(np.float32), mask

    options = Options(steps=4, sparsity=0.5, stages=2, lr=1e-12, **QUICK)
    distill(bert_folder, tmp_path / "out", TEXTS, options=options, prune=Pruner())
    assert len(calls) == 2 * 12 and calls[-1][1] == 0.5
    name = "encoder.layer.0.intermediate.dense.weight"
    source, ours = open_checkpoint(bert_folder).array(name), open_checkpoint(tmp_path / "out").array(name)
    np.testing.assert_allclose(ours[ours != 0], 4 * source[ours != 0], rtol=1e-5)  # its new weights are taken


def test_a_budget_of_minutes_is_kept(bert_folder: Path, tmp_path: Path) -> None:
    done = distill(bert_folder, tmp_path / "out", TEXTS, options=Options(minutes=0.05, sparsity=0.5, **QUICK))
    assert 3 <= done.seconds < 4.5 and done.steps > 3  # one step more than the budget at most
    assert done.sparsity == pytest.approx(0.5, abs=2e-3)


def test_pruning_is_not_counted_and_saved_at_once(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the test's: pruning takes an hour, a step a second."""
    from aerogel.train import distillation, schedule
    from aerogel.train.loop import Loop

    now = [0.0]
    monkeypatch.setattr(schedule.Clock.__init__, "__defaults__", (None, None, lambda: now[0]))
    prune, step = distillation.prune_at_once, Loop._step

    def slow_prune(*args: object) -> None:
        now[0] += 3600
        prune(*args)  # type: ignore[arg-type]

    def slow_step(loop: Loop, *args: object) -> None:
        if loop.clock.step == 0:
            assert snapshot_of(tmp_path / "out").exists()
        now[0] += 1
        step(loop, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(distillation, "prune_at_once", slow_prune)
    monkeypatch.setattr(Loop, "_step", slow_step)
    done = distill(bert_folder, tmp_path / "out", TEXTS, options=Options(minutes=0.1, sparsity=0.5, **QUICK))
    assert done.steps == 6 and done.seconds == pytest.approx(6)
    assert not snapshot_of(tmp_path / "out").exists()


def test_no_step_is_no_success(bert_folder: Path, tmp_path: Path) -> None:
    options = Options(minutes=1e-12, sparsity=0.5, **QUICK)
    with pytest.raises(RecipeError, match=r"before the first step: nothing was trained; .*out.snapshot has the pruned"):
        distill(bert_folder, tmp_path / "out", TEXTS, options=options)
    assert snapshot_of(tmp_path / "out").exists() and not (tmp_path / "out").exists()


def test_a_budget_of_one_step_prunes_all_the_same(bert_folder: Path, tmp_path: Path) -> None:
    assert distill(
        bert_folder, tmp_path / "out", TEXTS, options=Options(steps=1, sparsity=0.8, stages=9, **QUICK)
    ).sparsity == pytest.approx(0.8, abs=2e-3)


def test_a_language_model(llama_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    options = Options(steps=30, sparsity=0.5, stages=3, lr=3e-3, max_tokens=16, **QUICK)
    distill(llama_folder, tmp_path / "out", TEXTS, options=options)
    aerogel.compress(tmp_path / "out", tmp_path / "packed", sparsity=0)
    aerogel.compress(llama_folder, tmp_path / "plain", sparsity=0.5, method="magnitude")
    from aerogel.train.losses import divergence

    rows = open_checkpoint(llama_folder).tokenizer().encode(TEXTS)
    dense, student, plain = (
        torch.from_numpy(aerogel.load(folder).forward(rows))
        for folder in (llama_folder, tmp_path / "packed", tmp_path / "plain")
    )
    assert divergence(student, dense, 1.0) < 0.8 * divergence(plain, dense, 1.0)
    transformers = pytest.importorskip("transformers")
    _, info = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_a_batch_of_different_lengths_of_a_language_model(llama_folder: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from aerogel.train.batches import Sequences
    from aerogel.train.trainee import open_trainee

    rows = [[3, 4, 5, 6], [7, 8]]
    with torch.no_grad():
        ours = open_trainee(open_checkpoint(llama_folder)).eval()(Sequences(rows).batch(np.arange(2)))
    np.testing.assert_allclose(ours.logits.numpy(), aerogel.load(llama_folder).forward(rows), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"steps": None}, RecipeError, "budget"),
    ({"sparsity": 1.5}, RecipeError, "sparsity: expected a number from 0 to 1, got 1.5"),
    ({"lr": 0.0}, RecipeError, "lr: expected more than 0"),
    ({"lr": "fast"}, RecipeError, "lr: expected a number, or auto, got 'fast'"),
    ({"lr": "auto", "stages": 2}, RecipeError, "lr: auto is found for a student that is pruned before"),
    ({"piece_minutes": 0.0}, RecipeError, "piece_minutes: expected more than 0"),
    ({"accumulate": 0}, RecipeError, "accumulate"),
    ({"lr": float("nan")}, RecipeError, "lr: expected a number, got nan"),
    ({"batch_tokens": 0}, RecipeError, "batch_tokens"),
    ({"quant": "int7"}, RecipeError, "int7"),
    ({"hidden": 0, "embedding": 0}, RecipeError, "have weight 0"),
    ({"lr": 1e30, "quant": None}, DataError, "not finite"),
])  # fmt: skip
def test_bad_options_are_named(bert_folder: Path, tmp_path: Path, change, error, message: str) -> None:
    with pytest.raises(error, match=message):
        distill(bert_folder, tmp_path / "out", TEXTS, options=Options(**{"steps": 8, **QUICK, **change}))
    assert not (tmp_path / "out").exists()


def test_no_text_no_teacher_and_a_folder_of_somebody_else(
    bert_folder: Path, llama_folder: Path, tmp_path: Path
) -> None:
    options = Options(steps=2, **QUICK)
    with pytest.raises(DataError, match="texts: expected at least one"):
        distill(bert_folder, tmp_path / "out", [" ", ""], options=options)
    with pytest.raises(ShapeError, match="teacher: vocab_size"):
        distill(bert_folder, tmp_path / "out", TEXTS, teacher=llama_folder, options=options)
    with pytest.raises(AerogelError):
        distill(tmp_path / "absent", tmp_path / "out", TEXTS, options=options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(RecipeError, match="not a model that aerogel wrote"):
        distill(bert_folder, tmp_path / "mine", TEXTS, options=options)
