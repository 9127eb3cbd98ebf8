"""A learning rate by trial."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.errors import DataError  # noqa: E402
from aerogel.train import Options  # noqa: E402
from aerogel.train.batches import Sequences, Stream  # noqa: E402
from aerogel.train.rate import LEAST, MOST, RATES, end_of, find_rate, trial_rate, trial_steps  # noqa: E402


class Valley:
    """In the place of `Updates`: one number, which plain gradient descent brings down x^2 / 2 * slope."""

    def __init__(self, slope: float) -> None:
        self.trained = [torch.nn.Parameter(torch.full((1,), 3.0))]
        self.optimizer = torch.optim.SGD(self.trained, lr=1.0)
        self.calls: list[tuple[float, tuple[int, ...]]] = []
        self._slope = slope

    def update(self, batches: list, rate: float, quant: None) -> dict[str, float]:
        x = self.trained[0].detach()
        self.calls.append((rate, tuple(batches[0].index.tolist())))
        loss = float(x.square() * self._slope / 2)
        x -= rate * self._slope * x
        return {"loss": loss if np.isfinite(loss) else float("nan")}


def find(slope: float, steps: int = 800) -> tuple[float, Valley]:
    stream = Stream(Sequences([[1], [2, 3], [4]]), 2, 0)
    valley = Valley(slope)
    rate = find_rate(valley, stream, Options(steps=steps))  # type: ignore[arg-type]
    assert stream.position == (0, 0) and float(valley.trained[0].detach()) == 3.0, "all is as it was"
    return rate, valley


@pytest.mark.parametrize("slope, best", [(10, 3e-3), (800, 1e-3), (2500, 3e-4), (1e20, None)])
def test_the_best_of_all_on_the_same_batches(slope: float, best: float | None) -> None:
    if best is None:
        with pytest.raises(DataError, match="lr: auto: the loss is not finite"):
            find(1e30)
        return
    rate, valley = find(slope)
    assert rate == best
    if slope == 10:
        trials = [[seen for r, seen in valley.calls[i : i + 10]] for i in range(0, 40, 10)]
        assert len(valley.calls) == 40 and all(trial == trials[0] for trial in trials)


def test_what_it_costs_is_bounded() -> None:
    assert trial_steps(100, None, 0.0) == LEAST and trial_steps(1000, None, 0.0) == 13
    assert trial_steps(10**6, None, 0.0) == MOST == trial_steps(None, 600, 1e-3)
    assert 4 * trial_steps(None, 60, 5.0) * 5.0 <= 0.05 * 3600 + 4 * 5.0
    assert [trial_rate(8.0, step, 16) for step in range(6)] == [2, 4, 6, 8, 8, 8]
    assert end_of([9.0] * 6 + [1.0, 3.0]) == 2 and end_of([1.0, float("nan")]) == float("inf")
    assert sorted(RATES) == list(RATES)
