"""Texts of one call that begin alike: the tokens that they have in common are run once.

A text that begins as one before it waits until that one has read so far; then the KV cache lets both have the same blocks,
of which the first to go on makes a copy where it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from aerogel.engine.generation.parts import FEWEST

if TYPE_CHECKING:
    from aerogel._core import Session

#: Tokens in common from which it is worth to wait.
LEAST = 32


class Reader(Protocol):
    """A text in a slot of the KV cache."""

    slot: int
    held: int
    loan: Loan | None

    @property
    def ids(self) -> Sequence[int]:
        """Its tokens so far."""
        ...


R = TypeVar("R", bound=Reader)


class Loan:
    """What a text is to have of another one, the lender: its first `tokens`."""

    def __init__(self, lender: Reader, tokens: int) -> None:
        self.lender = lender
        self._tokens = tokens

    def take(self, session: Session, borrower: Reader) -> bool:
        """Shares them, once they have been run; whether they were."""
        if self.lender.held < self._tokens:
            return False
        session.share_slot(self.lender.slot, borrower.slot, self._tokens)
        borrower.held = self._tokens
        return True


def loan_of(ids: Sequence[int], others: Iterable[Reader]) -> Loan | None:
    """What a new text can have of one that is being read or written; None: too little."""
    own = np.array(ids[:-FEWEST], np.int64)  # the last tokens are run: their logits are wanted, see `parts`
    best: Loan | None = None
    most = LEAST - 1
    for other in others:
        theirs = np.array(other.ids[: len(own)], np.int64)
        differ = np.flatnonzero(own[: len(theirs)] != theirs)
        same = int(differ[0]) if len(differ) else len(theirs)
        if same > most:
            best, most = Loan(other, same), same
    return best


def take_loans(session: Session, places: Iterable[R]) -> None:
    """Lets all have what has been run meanwhile. To be called before a lender goes."""
    for place in places:
        if place.loan is not None and place.loan.take(session, place):
            place.loan = None
