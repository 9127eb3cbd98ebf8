"""What a client is told when it gets no answer: the same causes, in the words of the API that it speaks."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aerogel.errors import (
    AerogelError,
    ChatTemplateError,
    DataError,
    DeadlineError,
    OverloadedError,
    ShapeError,
    TokenizerError,
    UnsupportedModelError,
)

log = logging.getLogger("aerogel")

#: cause -> status of most APIs, type of OpenAI's, status and type of text-embeddings-inference's.
_CAUSES = {
    "syntax": (400, "invalid_request_error", 400, "Validation"),  # the body is not JSON
    "type": (400, "invalid_request_error", 422, "Validation"),  # it is, of another shape
    "empty": (400, "invalid_request_error", 400, "Empty"),
    "value": (400, "invalid_request_error", 413, "Validation"),  # too long, too many, or nothing that there is
    "tokens": (400, "invalid_request_error", 422, "Tokenizer"),
    "task": (400, "invalid_request_error", 424, "Backend"),  # the model does something else
    "media": (415, "invalid_request_error", 415, "Validation"),
    "large": (413, "invalid_request_error", 413, "Validation"),
    "slow": (408, "invalid_request_error", 408, "Validation"),
    "key": (401, "invalid_request_error", 401, "Unauthorized"),
    "host": (421, "invalid_request_error", 421, "Validation"),
    "model": (404, "invalid_request_error", 404, "Validation"),
    "route": (404, "invalid_request_error", 404, "Validation"),
    "method": (405, "invalid_request_error", 405, "Validation"),
    "overload": (429, "rate_limit_error", 429, "Overloaded"),
    "late": (504, "server_error", 504, "Backend"),
    "broken": (500, "server_error", 424, "Backend"),
}
#: OpenAI's `code`, where it has one.
_CODES = {"key": "invalid_api_key", "model": "model_not_found", "overload": "rate_limit_exceeded"}


class Failure(Exception):
    """A request that is not answered.

    Attributes:
        cause: one of those above.
        message: what the client reads.
        param: the field that is wrong.
        retry_after: seconds.
    """

    def __init__(self, cause: str, message: str, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.cause, self.message, self.param, self.retry_after = cause, message, param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What belongs to the status."""
        found = {}
        if self.cause == "overload":
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after or 1.0)))
        if self.cause == "key":
            found["WWW-Authenticate"] = "Bearer"
        return found


def rendered(failure: Failure, style: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a failure, as "openai", "tei" or "cohere" give them."""
    status, kind, tei_status, tei_kind = _CAUSES[failure.cause]
    if style == "tei":
        return tei_status, {"error": failure.message, "error_type": tei_kind}
    if style == "cohere":  # and Jina's word for it
        return status, {"message": failure.message, "detail": failure.message}
    code = _CODES.get(failure.cause)
    return status, {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": code}}


class Explainer:
    """Makes failures of errors: without anything of this machine in them.

    Args:
        places: names of models with the paths they were read from.
    """

    def __init__(self, places: Iterable[tuple[str, str]]) -> None:
        known: dict[str, str] = {}
        for name, path in places:
            local = Path(path).expanduser()
            for form in (path, str(local), os.path.abspath(local), os.path.realpath(local)):
                known[form] = name
        # The longest first: one may begin with another.
        self._known = sorted(known.items(), key=lambda pair: -len(pair[0]))
        self._others = [re.escape(text) for text in {str(Path.home()), os.getcwd()} if len(text) > 1]

    def failure(self, error: BaseException) -> Failure:
        """The failure that an error is to the client. What is nobody's fault but ours is logged, and not told."""
        if isinstance(error, Failure):
            return error
        if not isinstance(error, AerogelError):
            log.error("a request has failed", exc_info=error)
            return Failure("broken", "internal error: the server's log has it")
        if isinstance(error, OverloadedError):
            return Failure("overload", self._clean(error), retry_after=error.retry_after)
        if isinstance(error, DeadlineError):
            return Failure("late", self._clean(error))
        if isinstance(error, UnsupportedModelError):
            return Failure("task", self._clean(error))
        if isinstance(error, TokenizerError):
            return Failure("tokens", self._clean(error))
        # Of these the bare class too: it is what arguments that are none raise.
        if type(error) is AerogelError or isinstance(error, (DataError, ShapeError, ChatTemplateError)):
            return Failure("value", self._clean(error))
        log.error("a request has failed", exc_info=error)
        return Failure("broken", "the model cannot be used: the server's log says why")

    def _clean(self, error: AerogelError) -> str:
        text = str(error)
        for path, name in self._known:
            text = text.replace(path, name)
        for other in self._others:
            text = re.sub(other + r"[^\s:'\"]*", "...", text)
        return text
