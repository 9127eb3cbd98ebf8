"""Compression with calibration texts: layer after layer, each fitted to what the compressed layers before it hand on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from aerogel._util.workers import side_by_side, workers
from aerogel.architectures import Architecture, Fold, Role
from aerogel.calibrate import Inputs, Moments, Seen, Stack, Statistics, Visitor, walk
from aerogel.calibrate.moves import moves_of
from aerogel.checkpoint import Checkpoint, Weight
from aerogel.compression.fold import divided_inputs, divided_rows, scale_of
from aerogel.compression.limit import limit_of
from aerogel.compression.matrix import Choice, compress_matrix, error_of
from aerogel.prune import corrected_target
from aerogel.prune.products import product

#: How strongly heads are pulled towards the dense model's: they see a row a text, where layers see one a token.
HEAD_DAMPING = 0.3
#: Methods that read `Statistics.moves`.
WEIGHING = ("admm",)


@dataclass
class Done:
    """One compressed matrix with its errors, see `TensorReport`."""

    weight: Weight
    error: float
    output_error: float | None


@dataclass(frozen=True)
class Compressed:
    """What calibration has made.

    Attributes:
        matrices: by name.
        vectors: norms and biases that are no longer those of the source, by name.
        limits: of the inputs of linears that are integers, by the matrix's name, where scales are static; see `limit.py`.
    """

    matrices: dict[str, Done] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


def compress_calibrated(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    choices: Mapping[str, Choice],
    correct: bool,
    alpha: float | None,
    static: bool,
    threads: int,
    done: Callable[[str], None],
    weigh: bool | None = None,
    seed: int = 0,
) -> Compressed:
    """The linears of a model; `done` is called with the name of each. `alpha`: scales are folded, see `fold.py`; `static`:
    inputs get limits, see `limit.py`.

    With `correct` the dense model runs along, and what is pruned is each layer's `corrected_target`: the weights that make
    its results of the compressed inputs closest to the dense model's. With `weigh` errors of results count by how much they
    move the model's output, for the methods that know that (`Statistics.moves`); None: unless it
    is a language model; `seed`: of what that is estimated with.
    """
    static = static and not architecture.shares_layers  # the inputs where a linear is run first do not bound the others
    folds = {fold.readers: fold for fold in architecture.folds()} if alpha is not None else {}
    vectors = {tensor.name for tensor in architecture.tensors() if tensor.role is Role.KEPT}
    weighing = {name for name, choice in choices.items() if choice.pattern is not None and choice.method in WEIGHING}
    weigh = not architecture.generates if weigh is None else weigh
    with workers(threads):
        moves = moves_of(architecture, checkpoint, sequences, weighing, seed) if weigh and weighing else {}
        visitor = _Compressing(checkpoint, choices, vectors, correct, folds, alpha or 0.0, static, done, moves)
        walk(architecture, checkpoint, sequences, visitor, threads)
    return visitor.found


class _Compressing(Visitor):
    sees_again = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        choices: Mapping[str, Choice],
        vectors: Set[str],
        correct: bool,
        folds: Mapping[tuple[str, ...], Fold],
        alpha: float,
        static: bool,
        done: Callable[[str], None],
        moves: Mapping[str, np.ndarray],
    ) -> None:
        self._moves = moves
        self.streams = 2 if correct else 1
        self.found = Compressed()
        self._checkpoint = checkpoint
        self._choices = choices
        self._vectors = vectors
        self._folds = folds
        self._alpha = alpha
        self._static = static
        self._done = done
        self._bias_change: np.ndarray | None = None  # of the linear just visited
        self._again: dict[tuple[str, ...], _Sums] = {}  # of linears that are run more than once

    def also(self, stack: Stack, inputs: Inputs) -> None:
        if stack.names in self._folds or any(self._is_fitted(name) for name in stack.names):
            self._again.setdefault(stack.names, _Sums(self._dense(stack))).add(inputs)

    def visit(self, stack: Stack, inputs: Inputs) -> list[list[np.ndarray]]:
        dense = self._dense(stack)
        fold = self._folds.get(stack.names)
        fitted = [name for name in stack.names if self._is_fitted(name)]
        sums = self._again.pop(stack.names, None) or _Sums(dense)
        if fitted or fold:
            sums.add(inputs)
        seen = _Seen(sums, self._has_bias(stack)) if fitted else None
        statistics = seen.statistics if seen else sums.moments.statistics() if fold else None
        targets: Sequence[np.ndarray] = dense
        if seen is not None and seen.differs:
            targets = self._targets(stack, dense, seen)
        s = None
        if fold is not None and statistics is not None:
            s = self._fold(fold, targets, statistics)
            statistics = divided_inputs(statistics, s)
            targets = [target * s for target in targets]
        used = []

        def compressed(part: tuple[str, np.ndarray]) -> Weight:
            name, target = part
            known = statistics if name in fitted else None
            if known is not None and name in self._moves:
                known = dataclasses.replace(known, moves=self._moves[name])
            return compress_matrix(target, self._choices[name], known)

        made = side_by_side(compressed, zip(stack.names, targets, strict=True))
        for name, weight, target, stored in zip(stack.names, dense, targets, made, strict=True):
            kept = stored.dense()
            used.append(kept if s is None else kept / s)
            if name not in self.found.matrices:  # a head may be tied to the embeddings, or used twice
                output_error = None if statistics is None else output_error_of(target, kept, statistics)
                self.found.matrices[name] = Done(stored, error_of(weight, used[-1]), output_error)
                self._done(name)
        self._bias_change = None
        if seen is not None and seen.centred:
            self._bias_change = seen.bias_change(dense, used)
        if self._static:
            self._limit(stack.names, inputs, s)
        return [dense, used] if self.streams == 2 else [used]

    def bias(self, stack: Stack, bias: np.ndarray) -> list[np.ndarray]:
        if self._bias_change is None:
            return [bias] * self.streams
        changed = bias + self._bias_change
        for name, end in zip(stack.names, np.cumsum(stack.outputs), strict=True):
            self.found.vectors[_bias_of(name)] = changed[end - self._checkpoint.shape(name)[0] : end]
        return [bias, changed] if self.streams == 2 else [changed]

    def _dense(self, stack: Stack) -> list[np.ndarray]:
        return [self._checkpoint.weight(name).dense() for name in stack.names]

    def _targets(self, stack: Stack, dense: Sequence[np.ndarray], seen: _Seen) -> Sequence[np.ndarray]:
        """One for each part; all parts together, which share what is solved for."""
        weight, gram = np.concatenate(dense), seen.statistics.gram
        if all(self._choices[name].refit for name in stack.names):
            target = corrected_target(weight, gram, seen.cross, seen.lacking, HEAD_DAMPING, keep_zeros=False)
        else:
            target = corrected_target(weight, gram, seen.cross, seen.lacking)
        return np.split(target, np.cumsum(stack.outputs)[:-1])

    def _has_bias(self, stack: Stack) -> bool:
        return all(_bias_of(name) in self._vectors for name in stack.names)

    def _fold(self, fold: Fold, weights: Sequence[np.ndarray], statistics: Statistics) -> np.ndarray:
        """Divides what makes the input; returns by what, float32 [K]."""
        s = scale_of(fold, weights, statistics, self._alpha)
        for name in fold.makers:
            made = self.found.matrices.get(name)
            if made is not None:
                made.weight = divided_rows(made.weight, s)
            else:
                vector = self.found.vectors.get(name, self._checkpoint.array(name))
                self.found.vectors[name] = (vector + np.float32(fold.offset)) / s - np.float32(fold.offset)
        return s if fold.columns is None else s[fold.columns]

    def _limit(self, names: Sequence[str], inputs: Inputs, s: np.ndarray | None) -> None:
        integers = [name for name in names if self.found.matrices[name].weight.numbers == "int8"]
        limit = limit_of(lambda: (seen.x[-1] for seen in inputs), s) if integers else None
        if limit is None:
            return
        for name in integers:
            self.found.limits[name] = max(limit, self.found.limits.get(name, 0.0))

    def _is_fitted(self, name: str) -> bool:
        choice = self._choices[name]
        return choice.pattern is not None or choice.compensated or choice.refit


class _Sums:
    """What `_Seen` is made of, added up over all that a linear reads: where it is run first, and where again.

    Attributes:
        weight: float32 [N, K], the dense model's, W.
        moments: of the compressed inputs p.
        terms: sums over tokens, by name. Once p and the dense model's x have differed "x" and what a target needs of x p^T:
            that itself, "cross", or where the linear's results are no wider than x "made", (W x + e) p^T, which needs no
            product more than the dense model does. "lacking cross" is e p^T where it is not in there, e what is lacking.
    """

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        self.weight = np.concatenate(weights)
        self._narrow = self.weight.shape[0] <= self.weight.shape[1]
        self.moments = Moments()
        self.terms: dict[str, np.ndarray] = {}

    def add(self, inputs: Inputs) -> None:
        """Adds what a linear reads."""
        differs = "x" in self.terms
        if inputs.differs and not differs:
            differs = True
            if self.moments.tokens:  # so far they were the same
                total = self.moments.total
                self.terms["made" if self._narrow else "cross"] = self.weight @ total if self._narrow else total
                self.terms["x"] = self.terms["p"]
        for moments, terms in inputs.each(lambda seen: self._of(seen, differs)):
            self.moments.join(moments)
            for name, term in terms.items():
                self.terms[name] = self.terms[name] + term if name in self.terms else term

    def _of(self, seen: Seen, differs: bool) -> tuple[Moments, dict[str, np.ndarray]]:
        """The terms of one block."""
        x, p, weight, lacking = seen.x[0], seen.x[-1], seen.weight, seen.lacking
        weighted = p if weight is None else p * weight[:, None]
        terms = {"p": weighted.sum(axis=0, dtype=np.float64)}
        if lacking is not None:
            terms["lacking"] = _sum(lacking, weight)
        if differs:
            terms["x"] = _sum(x, weight)
        if differs and self._narrow:
            made = x @ self.weight.T if seen.made is None else seen.made()
            terms["made"] = (made if lacking is None else made + lacking).T @ weighted
        else:
            if differs:
                terms["cross"] = x.T @ weighted
            if lacking is not None:
                terms["lacking cross"] = lacking.T @ weighted
        return Moments.of(p, weight), terms

    @property
    def means(self) -> dict[str, np.ndarray]:
        """float32, the terms of one token."""
        return {name: (sum / (self.moments.weight or 1)).astype(np.float32) for name, sum in self.terms.items()}


class _Seen:
    """The moments of a linear's inputs, about their means where a bias can make up for those.

    Attributes:
        statistics: of the compressed inputs p.
        differs: whether p is not the dense model's input x, or something is lacking besides.
        cross: float32 [K, K], mean x p^T; the gram matrix where that is not known, and `lacking` has what is missing then.
        lacking: float32 [N, K], mean e p^T, e what the residual lacks; None: nothing.
        centred: whether the means are taken off.
    """

    lacking: np.ndarray | None

    def __init__(self, sums: _Sums, centred: bool) -> None:
        means = sums.means
        self.statistics = sums.moments.statistics()
        self.centred = centred
        self.differs = "x" in means or "lacking" in means
        self._p_mean, self._e_mean = means["p"], means.get("lacking")
        self._x_mean = means.get("x", self._p_mean)
        made, lacking = means.get("made"), means.get("lacking cross")  # [N, K]
        if centred:
            gram = self.statistics.gram - np.outer(self._p_mean, self._p_mean)
            np.fill_diagonal(gram, np.maximum(gram.diagonal(), 0))  # rounding
            self.statistics = Statistics(self.statistics.tokens, gram, self.statistics.largest)
        if made is not None:
            self.cross = self.statistics.gram
            made = made if lacking is None else made + lacking
            if centred:
                made -= np.outer(self._plus_lacking(sums.weight @ self._x_mean), self._p_mean)
            self.lacking = made - product(sums.weight, self.cross)
            return
        self.cross, self.lacking = means.get("cross", self.statistics.gram), lacking
        if centred and "cross" in means:
            self.cross = self.cross - np.outer(self._x_mean, self._p_mean)
        if centred and lacking is not None and self._e_mean is not None:
            self.lacking = lacking - np.outer(self._e_mean, self._p_mean)

    def _plus_lacking(self, means: np.ndarray) -> np.ndarray:
        return means if self._e_mean is None else means + self._e_mean

    def bias_change(self, dense: Sequence[np.ndarray], used: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [N]: W mean(x) + mean(e) - V mean(p)."""
        change = np.concatenate([w @ self._x_mean - v @ self._p_mean for w, v in zip(dense, used, strict=True)])
        return self._plus_lacking(change)


def _sum(x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    total: np.ndarray = x.sum(axis=0, dtype=np.float64) if weight is None else weight @ x
    return total


def _bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def output_error_of(target: np.ndarray, stored: np.ndarray, statistics: Statistics) -> float:
    """|x target - x stored| / |x target| over the calibration texts."""
    lost = target - stored
    whole = float(np.einsum("nk,nk->", product(target, statistics.gram), target, dtype=np.float64))
    gone = float(np.einsum("nk,nk->", product(lost, statistics.gram), lost, dtype=np.float64))
    return float(np.sqrt(max(gone, 0.0) / whole)) if whole > 0 else 0.0
