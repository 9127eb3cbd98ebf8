"""Lottery tickets (Frankle & Carbin, arXiv 1803.03635; rewinding to step k: Frankle et al., arXiv 1903.01611).

W_k = train(W_0, steps 0..k)
for each round: W = train(W_k * mask, steps k..T); mask = prune(W); the weights that stay go back to W_k
the ticket is (W_k, mask), trained once more from k to T
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from aerogel._util.checks import function, instance, items, number, shown, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel.errors import RecipeError
from aerogel.prune import Unstructured, cubic_steps
from aerogel.train.masks import MaskLock
from aerogel.train.options import Pruner
from aerogel.train.pruners import by_magnitude

#: (model, lock, first step, end): trains the model from one step to another; the order of data and the learning rate
#: are a function of the step. The lock is attached already; `lock.attach(optimizer)` covers momentum too.
Train = Callable[[torch.nn.Module, MaskLock, int, int], None]


def lottery_ticket(
    model: torch.nn.Module,
    train: Train,
    steps: int,
    rewind: int,
    sparsities: Sequence[float],
    prune: Pruner | None = None,
    names: Iterable[str] | None = None,
) -> MaskLock:
    """Finds a ticket by iterative pruning with rewinding, and trains it.

    Args:
        model: trained in place; at the end it is the trained ticket.
        train: trains some steps; called with fresh optimizers in mind: nothing is carried over between calls.
        steps: T.
        rewind: k, 0 <= k < T; 0 is the original lottery ticket.
        sparsities: what each round prunes to, rising; `geometric(0.8, 4)` is the classic choice.
        prune: as in `aerogel.train.distill`; by magnitude, per tensor, unless given.
        names: the parameters to prune; every weight of a torch.nn.Linear unless given.

    Returns:
        The lock that holds the ticket's mask.

    Raises:
        RecipeError: steps, rewind or sparsities make no sense.
        PrunedWeightError: `train` brought a pruned weight back.
    """
    instance("model", model, torch.nn.Module, RecipeError)
    function("train", train, RecipeError)
    steps = whole_number("steps", steps, 1, error=RecipeError)
    rewind = whole_number("rewind", rewind, 0, steps - 1, RecipeError)
    sparsities = [
        number("sparsities", each, 0, 1, RecipeError) for each in items("sparsities", sparsities, RecipeError)
    ]
    if not sparsities or sparsities != sorted(sparsities):
        raise RecipeError(f"sparsities: expected rising numbers from 0 to 1, got {shown(sparsities)}")
    function("prune", prune, RecipeError)
    chosen = _linears(model) if names is None else check_texts("names", names, RecipeError)
    known = dict(model.named_parameters())
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise RecipeError(f"names: the model has no parameter {shown(unknown[0])}")
    parameters = {name: known[name] for name in chosen}
    lock = MaskLock(model, {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()})
    prune = prune or by_magnitude(Unstructured(0.0))
    if rewind:
        _train(model, lock, train, 0, rewind)
    start = {name: value.detach().clone() for name, value in model.state_dict().items()}  # W_k
    for sparsity in sparsities:
        _train(model, lock, train, rewind, steps)
        for name, parameter in parameters.items():
            found = items("prune: what it returned", prune(name, parameter.detach().cpu().numpy().copy(), sparsity))
            if len(found) != 2:
                raise RecipeError(f"prune: expected it to return a weight and a mask, got {shown(found)}")
            _, mask = found
            lock.update(name, mask)
        model.load_state_dict(start)
        lock.apply()
    _train(model, lock, train, rewind, steps)
    return lock


def geometric(final: float, rounds: int) -> list[float]:
    """The sparsities of rounds that each remove the same part of what is left."""
    if rounds < 1 or not 0 <= final < 1:
        raise RecipeError(f"expected at least one round and a sparsity from 0 to below 1, got {rounds} and {final}")
    return [1 - (1 - final) ** ((i + 1) / rounds) for i in range(rounds)]


def gradual(final: float, rounds: int) -> list[float]:
    """The sparsities of rounds on the cubic curve."""
    return cubic_steps(0.0, final, rounds)


def _train(model: torch.nn.Module, lock: MaskLock, train: Train, begin: int, end: int) -> None:
    with lock:
        train(model, lock, begin, end)


def _linears(model: torch.nn.Module) -> list[str]:
    found = [
        f"{name}.weight" if name else "weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)
    ]
    if not found:
        raise RecipeError("lottery_ticket: the model has no torch.nn.Linear: name the parameters to prune")
    return found
