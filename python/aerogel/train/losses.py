"""What a student is trained on. Each term is about 1 for outputs that have nothing to do with the teacher's.

hidden     mean over layers of |h - h'|^2 / |h' - mean h'|^2     hidden states of every layer
attention  the same of what attention gives                      (encoders)
embedding  1 - cos(e, e')                                        pooled embeddings
relation   mean of (cos(e_i, e_j) - cos(e'_i, e'_j))^2 over the variance of the teacher's
logits     KL(teacher || student) at a temperature T, times T^2  (Hinton et al., arXiv 1503.02531);
           of a language model that of the teacher's k most likely tokens, and of all others as one
labels     cross entropy
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

#: Rows of logits that are worked on at once: a vocabulary is wide, and what fits in a cache is not mapped anew each time.
_ROWS = 32

#: The least probability of all tokens but the most likely ones: below it float32 cannot tell 1 - p from 1.
_LEAST = 1e-6


@dataclass
class Top:
    """The most likely of V outcomes, in each of R rows.

    Attributes:
        index: int64 [R, k].
        log: float32 [R, k], the logarithms of their probabilities.
    """

    index: torch.Tensor
    log: torch.Tensor


def _scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Over the temperature, in float32, in memory of its own."""
    return logits.float().div(temperature) if temperature != 1 else logits.to(torch.float32, copy=True)


def top_of(logits: torch.Tensor, count: int, temperature: float) -> Top:
    """The `count` most likely outcomes of rows of logits [R, V] at a temperature."""
    parts = []
    for begin in range(0, len(logits), _ROWS):
        scaled = _scaled(logits[begin : begin + _ROWS], temperature)
        values, index = scaled.topk(count, dim=1)
        parts.append((index, values - torch.logsumexp(scaled, dim=1, keepdim=True)))
    return Top(torch.cat([index for index, _ in parts]), torch.cat([values for _, values in parts]))


def top_divergence(student: torch.Tensor, teacher: Top, temperature: float) -> torch.Tensor:
    """KL of what the teacher's rows say of their most likely outcomes, and of all others as one; mean over rows."""
    apply: Callable[..., torch.Tensor] = _TopDivergence.apply
    return apply(student, teacher.index, teacher.log, temperature)


class _TopDivergence(torch.autograd.Function):
    """The gradient is made on the way forward, some rows at a time: a row of logits is wide, and read once so.

    With p, r the teacher's probabilities of the outcomes that are told apart and of the rest, q, s the student's and
    q_j = softmax(z / T)_j:   d KL / d z_j = (q_j - p_j) / T  of those,   q_j (1 - r / s) / T  of the others.
    """

    @staticmethod
    def forward(
        ctx: Any, student: torch.Tensor, index: torch.Tensor, log: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        total = torch.zeros((), device=student.device)
        gradient = torch.empty_like(student)
        for begin in range(0, len(student), _ROWS):
            rows = slice(begin, begin + _ROWS)
            q = _scaled(student[rows], temperature)
            normal = torch.logsumexp(q, dim=1, keepdim=True)
            places, theirs = index[rows], log[rows]
            ours = q.gather(1, places) - normal
            p = theirs.exp()
            total += (p * (theirs - ours)).sum()
            rest, our_rest = ((1 - part.exp().sum(1, keepdim=True)).clamp_min(_LEAST) for part in (theirs, ours))
            total += (rest * (rest.log() - our_rest.log())).sum()
            q.sub_(normal).exp_().mul_(1 - rest / our_rest).scatter_(1, places, ours.exp() - p)
            gradient[rows] = q.mul_(temperature / len(student))
        ctx.save_for_backward(gradient)
        return total * temperature**2 / len(student)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None


def match(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over layers of the squared distance of [T, H], over the teacher's variance."""
    terms = []
    for s, t in zip(student, teacher, strict=True):
        s, t = s.float(), t.float()
        spread = (t - t.mean(0)).square().mean().clamp_min(1e-12)
        terms.append(F.mse_loss(s, t) / spread)
    return torch.stack(terms).mean()


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - the mean cosine of [S, H]."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=1).mean()


def relation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far the cosines between the sequences of a batch [S, H] are off, over the teacher's variance; 0 for one."""
    if len(student) < 2:
        return student.sum() * 0
    s, t = F.normalize(student.float(), dim=1), F.normalize(teacher.float(), dim=1)
    count = len(s) * (len(s) - 1)
    off = 1 - torch.eye(len(s), device=s.device)
    theirs = t @ t.T
    spread = ((theirs - (theirs * off).sum() / count) * off).square().sum() / count
    return ((s @ s.T - theirs) * off).square().sum() / count / spread.clamp_min(1e-6)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL of rows of logits [R, V], mean over rows."""
    total = torch.zeros((), device=student.device)
    for begin in range(0, len(student), _ROWS):
        s = F.log_softmax(student[begin : begin + _ROWS].float() / temperature, dim=1)
        t = F.log_softmax(teacher[begin : begin + _ROWS].float() / temperature, dim=1)
        total = total + F.kl_div(s, t, reduction="sum", log_target=True)
    return total * temperature**2 / len(student)
