"""Chat templates as programs: Jinja in its immutable sandbox, within bounds of time and memory.

A template comes with a model from anywhere. Jinja's sandbox keeps it from Python's internals and from changing what it is
given; it does not keep it from looping for ever or from making endless texts. So here every loop, call and filter looks at
the clock, and what could make something long from something short (`*`, `+`, `~`, padding, replacing) is measured first.
What remains possible is to take `SECONDS`, and memory for some things of `LARGEST` elements.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils
import jinja2.visitor

from aerogel.errors import ChatTemplateError

#: Characters, or elements of a list, that anything in a template may have.
LARGEST = 1 << 24
#: Seconds of one rendering: templates in use take milliseconds.
SECONDS = 10.0
#: Characters of a template.
LONGEST_SOURCE = 1 << 20
#: What one operation may make before the result is held against LARGEST, as a multiple of it.
_AT_ONCE = 8
#: A width that a format may ask for has fewer digits; no chat needs one, and none is taken from the arguments.
_WIDE_FORMAT = re.compile(r"\d{6}|%[^a-zA-Z%]*\*")

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class _TooMuchError(Exception):
    """A bound is passed. Not an error of Jinja's: templates cannot see it."""


def render(source: str, values: dict[str, Any], where: object) -> str:
    """The text that a template makes of the values, which are plain data: None, bool, numbers, strings, lists, dicts.

    Raises:
        ChatTemplateError: it is no template, refuses the values, or passes a bound.
    """
    if len(source) > LONGEST_SOURCE:
        raise ChatTemplateError(
            f"{where}: chat template: expected at most {LONGEST_SOURCE} characters, got {len(source)}"
        )
    token = _deadline.set(time.monotonic() + SECONDS)
    try:
        return str(_compiled(source).render(values))
    except _TooMuchError as error:
        raise ChatTemplateError(f"{where}: chat template: {error}") from None
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(f"{where}: chat template: line {error.lineno}: {error.message}") from error
    except (Exception, RecursionError) as error:  # a template can raise whatever Python's operators do
        said = f"{error}" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise ChatTemplateError(f"{where}: chat template: {said[:500]}") from error
    finally:
        _deadline.reset(token)


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    environment = _environment()
    tree = _Bounding().visit(environment.parse(source))
    return environment.from_string(tree)


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.filters = {name: _bounded_filter(f) for name, f in environment.filters.items()}
    environment.filters["_each"] = _each
    environment.filters["_concat"] = lambda parts: _join([str(part) for part in parts])
    environment.globals.pop("lipsum")
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    environment.globals["namespace"] = _Namespace
    return environment


def _tick() -> None:
    if time.monotonic() > _deadline.get():
        raise _TooMuchError(f"takes longer than {SECONDS:g} seconds")


def _check_size(value: Any) -> Any:
    """The value, if it is not too large."""
    if isinstance(value, (str, bytes, list, tuple, dict, set)) and len(value) > LARGEST:
        raise _TooMuchError(f"makes a {type(value).__name__} of more than {LARGEST} elements")
    if isinstance(value, int) and value.bit_length() > 4096:
        raise _TooMuchError("makes a number of more than 4096 bits")
    return value


def _join(parts: Iterable[str]) -> str:
    texts = list(parts)
    if sum(map(len, texts)) > LARGEST:
        raise _TooMuchError(f"makes a text of more than {LARGEST} characters")
    return "".join(texts)


def _each(values: Any) -> Any:
    """What a loop goes through: as it is where its length is known, else with an eye on the clock."""
    _tick()
    return values if hasattr(values, "__len__") else _watched(values)


def _watched(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _tick()
        yield value


def _check_growth(subject: Any, arguments: Iterable[Any]) -> None:
    """Whether the result of a function of these may be too large: at most the product of their sizes is made."""
    _tick()
    _check_format(subject)
    times = len(subject) + 1 if isinstance(subject, (str, list, tuple)) else 1
    longest = max([1, *map(_size, arguments)])
    most = _AT_ONCE * LARGEST
    if longest > LARGEST or longest * times > most or (times > 1 and _size(subject) > most):
        raise _TooMuchError(f"could make something of more than {most} elements")


def _size(value: Any) -> int:
    """How long something could be that is made with it; of a list, that is all of its texts end to end."""
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(len(one) if isinstance(one, str) else 1 for one in value)
    return 1


def _check_format(subject: Any) -> None:
    if isinstance(subject, str) and ("%" in subject or "{" in subject) and _WIDE_FORMAT.search(subject):
        raise _TooMuchError(f"{subject!r:.80}: expected no text with a percent sign or brace and so wide a number")


def _bounded_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments and result are measured. Some have the context, or another such object, as their first."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        subject, *rest = args[skipped:] or (None,)
        if function is not _to_json:
            _check_growth(subject, [*rest, *kwargs.values()])
        return _check_size(function(*args, **kwargs))

    return bounded


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(_join)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            sizes = [
                len(x) if isinstance(x, (str, list, tuple)) else x if isinstance(x, int) else 1 for x in (left, right)
            ]
            if not (isinstance(left, int) and isinstance(right, int)) and sizes[0] * sizes[1] > LARGEST:
                raise _TooMuchError(f"makes something of more than {LARGEST} elements")
        elif operator == "**":
            bits = abs(right) if isinstance(right, (int, float)) else 0
            if isinstance(left, int) and left.bit_length() * bits > 4096:
                raise _TooMuchError("makes a number of more than 4096 bits")
        elif operator == "%":
            _check_format(left)
        return _check_size(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # the sandbox wraps str.format
        given = [*args, *kwargs.values()]
        if isinstance(owner, str):
            _check_growth(owner, given)
        elif isinstance(function, (type, jinja2.utils.Namespace)):
            _tick()
        else:
            _check_growth(None, [one for one in given if isinstance(one, int)])
        return _check_size(super().call(context, function, *args, **kwargs))


class _Bounding(jinja2.visitor.NodeTransformer):
    """Loops look at the clock, and `~` at the size."""

    def visit_For(self, node: jinja2.nodes.For, *args: Any) -> jinja2.nodes.Node:
        self.generic_visit(node)
        node.iter = jinja2.nodes.Filter(node.iter, "_each", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: jinja2.nodes.Concat, *args: Any) -> jinja2.nodes.Node:
        self.generic_visit(node)
        parts = jinja2.nodes.List(node.nodes, lineno=node.lineno)
        return jinja2.nodes.Filter(parts, "_concat", [], [], None, None, lineno=node.lineno)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said; here it changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(jinja2.utils.Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as Jinja's own, so that namespace(self=...) works
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r}: expected no name with an underscore in front in a namespace")


def _raise(message: Any) -> None:
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as Transformers' templates have it: `<`, `>`, `&` and `'` stay as they are."""
    if isinstance(indent, int) and indent > 64 or isinstance(indent, str) and len(indent) > 64:
        raise _TooMuchError(f"tojson: indent: expected at most 64, got {indent!r:.80}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
