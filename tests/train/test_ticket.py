"""Lottery tickets: rewound to step k, pruned round by round."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.errors import RecipeError  # noqa: E402
from aerogel.train import lottery_ticket  # noqa: E402
from aerogel.train.masks import PrunedWeightError  # noqa: E402
from aerogel.train.ticket import geometric, gradual  # noqa: E402


def network() -> torch.nn.Sequential:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))


def train_with(log):
    def train(model, lock, begin, end):
        log.append((begin, end, lock.sparsity, {n: v.clone() for n, v in model.state_dict().items()}))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        lock.attach(optimizer)
        for step in range(begin, end):
            x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (model(x) - x[:, :1] * x[:, 1:2]).square().mean().backward()
            optimizer.step()

    return train


def test_every_round_starts_from_the_weights_of_step_k() -> None:
    log, model = [], network()
    lock = lottery_ticket(model, train_with(log), steps=20, rewind=4, sparsities=geometric(0.75, 2))
    assert [(begin, end) for begin, end, *_ in log] == [(0, 4), (4, 20), (4, 20), (4, 20)]
    assert [sparsity for *_, sparsity, _ in log] == pytest.approx([0, 0, 0.5, 0.75], abs=0.01)
    start, masks = log[1][3], lock.masks
    assert torch.equal(log[3][3]["0.weight"], start["0.weight"] * masks["0.weight"])
    assert torch.equal(log[3][3]["0.bias"], start["0.bias"])
    assert lock.sparsity == pytest.approx(0.75, abs=0.01)
    lock.verify()
    assert not torch.equal(model[0].weight, log[3][3]["0.weight"]), "the ticket was trained"
    assert not model[0]._parameters["weight"]._post_accumulate_grad_hooks


def test_rewinding_to_the_start_is_the_original_ticket() -> None:
    log, model = [], network()
    first = model[0].weight.detach().clone()
    lock = lottery_ticket(model, train_with(log), steps=5, rewind=0, sparsities=[0.5], names=["0.weight"])
    assert [(begin, end) for begin, end, *_ in log] == [(0, 5), (0, 5)]
    assert torch.equal(log[1][3]["0.weight"], first * lock.masks["0.weight"]) and list(lock.masks) == ["0.weight"]


def test_a_trainer_that_brings_weights_back_is_caught() -> None:
    def careless(model, lock, begin, end):
        with torch.no_grad():
            model[0].weight.add_(1)

    with pytest.raises(PrunedWeightError, match="0.weight"):
        lottery_ticket(network(), careless, steps=2, rewind=0, sparsities=[0.5])


def test_sparsities_of_rounds() -> None:
    assert geometric(0.875, 3) == pytest.approx([0.5, 0.75, 0.875])
    assert gradual(0.8, 4)[-1] == 0.8 and gradual(0.8, 4) == sorted(gradual(0.8, 4))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"rewind": 5}, "rewind: expected 0 to 4, got 5"),
    ({"sparsities": []}, "sparsities"),
    ({"sparsities": [0.5, 0.4]}, "rising"),
    ({"sparsities": [0.5, 1.4]}, "sparsities: expected a number from 0 to 1, got 1.4"),
])  # fmt: skip
def test_nonsense_is_refused(arguments, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        lottery_ticket(network(), train_with([]), **{"steps": 5, "rewind": 0, "sparsities": [0.5], **arguments})
    with pytest.raises(RecipeError, match="no torch.nn.Linear"):
        lottery_ticket(torch.nn.ReLU(), train_with([]), steps=5, rewind=0, sparsities=[0.5])
    with pytest.raises(RecipeError):
        geometric(1.0, 2)
