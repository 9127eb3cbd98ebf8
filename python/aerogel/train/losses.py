"""What a student is trained on. Each term is about 1 for outputs that have nothing to do with the teacher's.

hidden     mean over layers of |h - h'|^2 / |h' - mean h'|^2     hidden states of every layer
attention  the same of what attention gives                      (encoders)
embedding  1 - cos(e, e')                                        pooled embeddings
relation   mean of (cos(e_i, e_j) - cos(e'_i, e'_j))^2 over the variance of the teacher's
logits     KL(teacher || student) at a temperature T, times T^2  (Hinton et al., arXiv 1503.02531)
labels     cross entropy
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

#: Rows of logits that are worked on at once: a vocabulary is wide.
_ROWS = 256


def match(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over layers of the squared distance of [T, H], over the teacher's variance."""
    terms = []
    for s, t in zip(student, teacher, strict=True):
        spread = (t - t.mean(0)).square().mean().clamp_min(1e-12)
        terms.append(F.mse_loss(s, t) / spread)
    return torch.stack(terms).mean()


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - the mean cosine of [S, H]."""
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


def relation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far the cosines between the sequences of a batch [S, H] are off, over the teacher's variance; 0 for one."""
    if len(student) < 2:
        return student.sum() * 0
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    off = ~torch.eye(len(s), dtype=torch.bool)
    theirs = (t @ t.T)[off]
    return F.mse_loss((s @ s.T)[off], theirs) / theirs.var(unbiased=False).clamp_min(1e-6)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL of rows of logits [R, V], mean over rows."""
    total = student.new_zeros(())
    for begin in range(0, len(student), _ROWS):
        s = F.log_softmax(student[begin : begin + _ROWS] / temperature, dim=1)
        t = F.log_softmax(teacher[begin : begin + _ROWS] / temperature, dim=1)
        total = total + F.kl_div(s, t, reduction="sum", log_target=True)
    return total * temperature**2 / len(student)
