"""How a server answers, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from aerogel._util.checks import flag, number, whole_number
from aerogel.errors import AerogelError


@dataclass(frozen=True)
class ServeOptions:
    """How a server answers, and what it refuses.

    Attributes:
        api_key: what requests must have in the header `Authorization: Bearer KEY`; None: nothing.
        cors: origins whose pages may ask; "*": all.
        hosts: values of the header Host that are answered, without the port; empty: all. A page of another site that has its
            name point to this machine is kept out by them.
        payload_limit: the most bytes of a request's body.
        body_seconds: within them a body must have come.
        max_client_batch: the most texts of a request.
        max_new_tokens: the most tokens that a request's text may have, and what a chat's have unless it says.
        max_choices: the most texts for one prompt (`n`).
        timeout: seconds after which a request is given up; None: never.
        auto_truncate: texts that are too long are cut unless a request says otherwise; False: they are refused.
        default_prompt, default_prompt_name: what stands before texts that are embedded, unless a request says; see
            `Model.encode`.
    """

    api_key: str | None = None
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    payload_limit: int = 2_000_000
    body_seconds: float = 30.0
    max_client_batch: int = 2048
    max_new_tokens: int = 2048
    max_choices: int = 16
    timeout: float | None = None
    auto_truncate: bool = True
    default_prompt: str | None = None
    default_prompt_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("payload_limit", "max_client_batch", "max_new_tokens", "max_choices"):
            whole_number(name, getattr(self, name), 1)
        number("body_seconds", self.body_seconds, 0, above=True)
        if self.timeout is not None:
            number("timeout", self.timeout, 0, above=True)
        flag("auto_truncate", self.auto_truncate)
        if self.default_prompt is not None and self.default_prompt_name is not None:
            raise AerogelError("expected one of default_prompt and default_prompt_name, got both")
