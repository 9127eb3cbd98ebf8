"""Texts of a given form: JSON of a schema, a regular expression, a grammar. llguidance says which tokens may come."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from aerogel._util.checks import shown
from aerogel._util.checks import text as check_text
from aerogel.engine.generation.options import Options
from aerogel.engine.generation.source import Source
from aerogel.errors import AerogelError, DataError, UnsupportedModelError

if TYPE_CHECKING:
    import llguidance

    from aerogel.checkpoint.tokenizer import Tokenizer

#: How JSON is written: as by Python, on one line. Models that may put in spaces at will may do so for ever.
_WRITTEN: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
#: Made once for a tokenizer: that takes up to a second.
_known: WeakKeyDictionary[Tokenizer, llguidance.LLTokenizer] = WeakKeyDictionary()
_lock = threading.Lock()


class Matcher:
    """Where a text is in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, name: str) -> None:
        self._matcher = matcher
        self._name = name
        self._check()

    def allowed(self, vocab_size: int) -> np.ndarray:
        """The tokens that may come next: uint32 [ceil(V / 32)], a bit for each."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        self._check()
        words = -(-vocab_size // 32)
        return np.pad(bits, (0, max(0, words - len(bits))))[:words]

    def accept(self, token: int) -> bool:
        """Goes on by a token; whether the text is complete then, and cannot go on."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise DataError(f"{self._name}: {self._matcher.get_error():.500}")


def matcher(source: Source, options: Options) -> Matcher:
    """The beginning of a text in the grammar that the options ask for.

    Raises:
        AerogelError: llguidance is not installed.
        DataError: it is no schema, expression or grammar.
    """
    try:
        import llguidance
    except ImportError as error:
        raise AerogelError("json_schema, regex and grammar need llguidance: pip install aerogel[grammar]") from error
    kind = llguidance.LLMatcher
    try:
        if options.json_schema is not None:
            name, grammar = "json_schema", kind.grammar_from_json_schema(_schema(options.json_schema), _WRITTEN)
        elif options.regex is not None:
            name, grammar = "regex", kind.grammar_from_regex(check_text("regex", options.regex, DataError))
        else:
            name, grammar = "grammar", kind.grammar_from_lark(check_text("grammar", options.grammar, DataError))
    except ValueError as error:
        raise DataError(f"json_schema: {error}") from error
    return Matcher(kind(_tokenizer(source), grammar, log_level=0), name)


def _schema(schema: Mapping[str, Any] | str) -> str:
    if isinstance(schema, str):
        return check_text("json_schema", schema, DataError)
    if not isinstance(schema, Mapping):
        raise DataError(f"json_schema: expected a dict or JSON, got {shown(schema)}")
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"json_schema: expected what JSON can hold: {error}") from error


def _tokenizer(source: Source) -> llguidance.LLTokenizer:
    import llguidance

    tokenizer = source.tokenizer
    with _lock:
        if tokenizer not in _known:
            size = max(source.architecture.vocab_size, tokenizer.vocab_size)
            try:
                _known[tokenizer] = llguidance.LLTokenizer(
                    tokenizer.as_json(), n_vocab=size, eos_token=sorted(source.ends()) or None
                )
            except Exception as error:  # ValueError, or whatever its Rust code makes of a vocabulary
                raise UnsupportedModelError(
                    f"{source.checkpoint.path}: llguidance cannot use the tokenizer: {error}"
                ) from error
        return _known[tokenizer]
