"""The mask lock in other people's training loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.errors import RecipeError, ShapeError  # noqa: E402
from aerogel.train import MaskLock, PrunedWeightError  # noqa: E402

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
}


def network(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(12, 20), torch.nn.GELU(), torch.nn.Linear(20, 3))


def warm(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, amp: bool = False) -> None:
    """Steps on random data."""
    random = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        x = torch.randn(16, 12, generator=random)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            loss = (model(x).float() ** 2).mean() + model(x).float().mean()
        loss.backward()
        optimizer.step()


def prune(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    masks = {name: torch.rand(p.shape) < 0.4 for name, p in model.named_parameters() if p.ndim == 2}
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    return masks


@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "amp-bf16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_though_momentum_remembers_them(name: str, amp: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    warm(model, optimizer, 3, amp)  # momentum of weights that are pruned only afterwards
    masks = prune(model)
    before = model[0].weight.detach().clone()
    with MaskLock(model).attached(optimizer) as lock:
        lock.apply(optimizer)
        for _ in range(5):
            warm(model, optimizer, 1, amp)
            lock.verify()
    for key, mask in masks.items():
        assert not model.get_parameter(key)[~mask].any()
        assert not model.get_parameter(key).grad[~mask].any()
        for value in optimizer.state[model.get_parameter(key)].values():
            assert not torch.is_tensor(value) or value.shape != mask.shape or not value[~mask].any()
    assert (model[0].weight != before).any(), "nothing was trained"


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_without_the_lock_they_come_back(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    lock = MaskLock(model, prune(model))
    warm(model, optimizer, 1)
    with pytest.raises(PrunedWeightError):
        lock.verify()


def test_apply_by_hand() -> None:
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    lock = MaskLock(model, prune(model))
    for _ in range(3):
        warm(model, optimizer, 1)
        lock.apply(optimizer)
        lock.verify()


def test_the_error_names_tensor_count_and_first_index() -> None:
    model = network()
    lock = MaskLock(model, prune(model))
    pruned = (~lock.masks["2.weight"]).nonzero()
    with torch.no_grad():
        for row, column in (pruned[3], pruned[1]):
            model[2].weight[row, column] = 0.25
    with pytest.raises(PrunedWeightError, match=r"2\.weight: expected \d+ pruned weights to be zero, got 2 ") as caught:
        lock.verify()
    assert caught.value.name == "2.weight" and caught.value.count == 2
    assert caught.value.index == tuple(pruned[1].tolist())


def test_nan_is_not_zero() -> None:
    model = network()
    lock = MaskLock(model, prune(model))
    row, column = (~lock.masks["0.weight"]).nonzero()[0]
    with torch.no_grad():
        model[0].weight[row, column] = float("nan")
    with pytest.raises(PrunedWeightError, match="nan"):
        lock.verify()
    lock.apply()
    lock.verify()


def test_gradients_that_are_not_finite_do_not_reach_pruned_weights() -> None:
    model = network()
    lock = MaskLock(model, prune(model)).attach()
    (model(torch.full((1, 12), float("inf"))).sum()).backward()
    assert not model[0].weight.grad[~lock.masks["0.weight"]].any()
    lock.detach()


def test_masks_are_found_from_zeros_and_a_dense_model_has_none() -> None:
    model = network()
    with pytest.raises(RecipeError, match="no zeros"):
        MaskLock(model)
    masks = prune(model)
    lock = MaskLock(model)
    assert set(lock.masks) == {"0.weight", "2.weight"}
    assert all(torch.equal(lock.masks[name], mask) for name, mask in masks.items())
    size = sum(mask.numel() for mask in masks.values())
    assert lock.sparsity == pytest.approx(sum(int((~mask).sum()) for mask in masks.values()) / size)


def test_masks_grow_only_unless_regrown() -> None:
    model = network()
    lock = MaskLock(model, {"2.weight": np.zeros((3, 20), bool)})
    lock.update("2.weight", np.ones((3, 20), bool))
    assert not lock.masks["2.weight"].any()
    lock.update("2.weight", np.ones((3, 20), bool), regrow=True)
    assert lock.masks["2.weight"].all()


def test_loading_a_dense_state_dict_is_noticed_and_repaired() -> None:
    model, dense = network(), network().state_dict()
    lock = MaskLock(model, prune(model))
    sparse = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(dense)
    with pytest.raises(PrunedWeightError):
        lock.verify()
    lock.apply()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in sparse.items())
    model.load_state_dict(sparse, assign=True)  # other parameter objects under the same names
    lock.verify()
    with torch.no_grad():
        model[0].weight.fill_(1)
    with pytest.raises(PrunedWeightError):
        lock.verify()


def test_its_own_state_comes_back_to_the_bit() -> None:
    model = network()
    lock = MaskLock(model, prune(model))
    other = MaskLock(model, {"0.weight": torch.ones(20, 12)})
    other.load_state_dict(lock.state_dict())
    assert all(torch.equal(other.masks[name], mask) for name, mask in lock.masks.items())
    with pytest.raises(ShapeError, match=r"0\.weight: mask: expected 30 bytes, got 29"):
        other.load_state_dict({"0.weight": lock.state_dict()["0.weight"][:-1]})


def test_wrong_names_and_shapes_are_refused() -> None:
    model = network()
    with pytest.raises(RecipeError, match="no parameter '1.weight'"):
        MaskLock(model, {"1.weight": torch.ones(2, 2)})
    with pytest.raises(ShapeError, match=r"0\.weight: mask: expected \[20, 12\], got \[12, 20\]"):
        MaskLock(model, {"0.weight": torch.ones(12, 20)})


def test_as_a_context_it_detaches_and_verifies() -> None:
    model = network()
    prune(model)
    with pytest.raises(PrunedWeightError), MaskLock(model):
        with torch.no_grad():
            model[0].weight.fill_(1)
    model.zero_grad()
    model(torch.ones(1, 12)).sum().backward()
    assert model[2].weight.grad.all(), "a hook was left behind"


def test_an_error_in_the_block_is_not_hidden_by_verification() -> None:
    model = network()
    prune(model)
    with pytest.raises(ZeroDivisionError), MaskLock(model):
        with torch.no_grad():
            model[0].weight.fill_(1)
        raise ZeroDivisionError


def test_trainer_of_transformers(tmp_path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    names = [name for name, p in model.named_parameters() if p.ndim == 2 and "encoder" in name]
    masks = {name: torch.rand(model.get_parameter(name).shape) < 0.3 for name in names}
    lock = MaskLock(model, masks)
    lock.apply()
    before = model.get_parameter(names[0]).detach().clone()
    data = [{"input_ids": [2, 5 + i % 7, 3], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(32)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=6, per_device_train_batch_size=8, learning_rate=0.01, weight_decay=0.1, use_cpu=True,
        save_steps=3, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=data, callbacks=[lock.callback()]).train()
    lock.verify()
    assert (model.get_parameter(names[0]) != before).any(), "nothing was trained"
