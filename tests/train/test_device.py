"""Where a run computes: what the options stand for, that nothing is left on the CPU, and products in bfloat16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.architectures import architecture_of, pooling_of  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.errors import RecipeError  # noqa: E402
from aerogel.train import Options, losses  # noqa: E402
from aerogel.train.batches import Sequences  # noqa: E402
from aerogel.train.device import place_of  # noqa: E402
from aerogel.train.trainee import Trainee, open_trainee  # noqa: E402
from aerogel.train.updates import Updates  # noqa: E402

ROWS = [[3, 4, 5, 6], [7, 8], [9, 3, 4]]


def everything(student, teacher, top: losses.Top | None) -> torch.Tensor:
    """All losses that these outputs allow."""
    terms = [losses.match(student.hidden[1:], teacher.hidden[1:])]
    if student.embedding is not None:
        terms += [losses.cosine(student.embedding, teacher.embedding)]
        terms += [losses.relation(student.embedding, teacher.embedding)]
    if student.logits is not None:
        terms += [losses.divergence(student.logits, teacher.logits, 2.0)]
        terms += [losses.top_divergence(student.logits, top, 2.0)]
    return torch.stack(terms).sum()


@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_everything_is_on_the_devices_side(model: str, request: pytest.FixtureRequest) -> None:
    """On PyTorch's device without data: what is made on the CPU does not go with it."""
    checkpoint = open_checkpoint(request.getfixturevalue(model))
    meta = torch.device("meta")
    models = [Trainee(architecture_of(checkpoint, pooling_of(checkpoint))).to(meta) for _ in range(2)]
    batch = Sequences(ROWS).batch(np.arange(3)).to(meta)
    student, teacher = (each(batch) for each in models)
    top = None if teacher.logits is None else losses.top_of(teacher.logits.detach(), 5, 2.0)
    loss = everything(student, teacher, top)
    assert loss.is_meta
    loss.backward()
    assert all(p.grad.is_meta for p in models[0].parameters() if p.grad is not None)
    assert any(p.grad is not None for p in models[0].parameters())
    with pytest.raises(RuntimeError, match="device"):
        models[0].named()[next(iter(models[0].named()))] + torch.zeros(models[0].architecture.hidden_size)


@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_products_in_bfloat16_and_all_else_in_float32(model: str, request: pytest.FixtureRequest) -> None:
    checkpoint = open_checkpoint(request.getfixturevalue(model))
    teacher = open_trainee(checkpoint, pooling_of(checkpoint)).eval()
    batch = Sequences(ROWS).batch(np.arange(3))
    with torch.no_grad():
        exact = teacher(batch)
        top = None if exact.logits is None else losses.top_of(exact.logits, 5, 2.0)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = teacher(batch)
    assert (exact.hidden[-1] != rounded.hidden[-1]).any() and losses.match(rounded.hidden[1:], exact.hidden[1:]) < 1e-3
    seen: list[torch.dtype] = []
    student = open_trainee(checkpoint, pooling_of(checkpoint))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.3)
    options = Options(steps=1, precision="bf16")

    def objective(batch):
        def terms(outputs):
            seen.append(everything(outputs, exact, top).dtype)
            return {"all": everything(outputs, exact, top)}

        return terms

    updates = Updates(student, objective, options)
    first = updates.update([batch], 1e-4, None)["all"]
    for _ in range(4):
        last = updates.update([batch], 1e-4, None)["all"]
    assert last < first and set(seen) == {torch.float32}
    assert {p.dtype for p in student.parameters()} == {p.grad.dtype for p in updates.trained} == {torch.float32}


def test_the_options_and_the_machine_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(**options: str) -> tuple[str, bool]:
        found = place_of(Options(steps=1, **options))
        return str(found.device), found.bf16

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert place() == ("cpu", has)
        assert place(precision="bf16") == ("cpu", True) and place(precision="float32") == ("cpu", False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert place() == ("cpu", False)
    with pytest.raises(RecipeError, match="device: cuda: PyTorch .* has 0 CUDA devices here"):
        place(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert place() == ("cuda", True) and place(device="cpu") == ("cpu", False)
    assert place(device="cuda:1", precision="float32") == ("cuda:1", False)
    with pytest.raises(RecipeError, match="has 2 CUDA devices here"):
        place(device="cuda:2")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert place() == ("cuda", False)


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"device": "cuda:x"}, {"precision": "fp16"}])
def test_what_there_is_not_is_named(wrong: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(wrong))}: expected auto"):
        Options(steps=1, **wrong)


def test_a_run_goes_on_on_another_device(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer that was not fused, as on mps, is taken over by one that is."""
    checkpoint = open_checkpoint(bert_folder)
    batch = Sequences(ROWS).batch(np.arange(3))

    def objective(batch):
        return lambda outputs: {"hidden": outputs.hidden[-1].square().mean()}

    made = [Updates(open_trainee(checkpoint), objective, Options(steps=1)) for _ in range(2)]
    for group in made[0].optimizer.param_groups:
        group["fused"] = False
    made[0].update([batch], 1e-3, None)
    made[1].load(made[0].optimizer.state_dict())
    assert all(group["fused"] for group in made[1].optimizer.param_groups)
    made[1].update([batch], 1e-3, None)
    state = made[1].optimizer.state[made[1].trained[0]]
    assert int(state["step"]) == 2
