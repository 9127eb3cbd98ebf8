"""aerogel serve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aerogel.cli.console import progress_bar, say
from aerogel.cli.options import KvCache, Quant, Rerank, Threads, amount
from aerogel.errors import AerogelError

if TYPE_CHECKING:
    from aerogel.engine.model import Model

WHERE, LIMITS, TEXTS = "Address", "Limits", "Texts"
_BYTES = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="What `aerogel info` reads; NAME is how clients call it."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all of the machine's.", rich_help_panel=WHERE)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, envvar="PORT", help="0: any.", rich_help_panel=WHERE)
    ] = 8080,
    uds: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Listen on a Unix socket that only you may open.", rich_help_panel=WHERE),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="API_KEY", metavar="KEY", help="Requests need it as a bearer token.", rich_help_panel=WHERE
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-allow-origin",
            envvar="CORS_ALLOW_ORIGIN",
            metavar="ORIGIN",
            help="Let pages of this origin ask; * is all. Repeatable.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    max_batch_tokens: Annotated[
        int, typer.Option(min=1, envvar="MAX_BATCH_TOKENS", help="Tokens of a step at most.", rich_help_panel=LIMITS)
    ] = 2048,
    max_concurrent_requests: Annotated[
        int,
        typer.Option(min=1, envvar="MAX_CONCURRENT_REQUESTS", help="More are refused (429).", rich_help_panel=LIMITS),
    ] = 512,
    max_client_batch_size: Annotated[
        int, typer.Option(min=1, envvar="MAX_CLIENT_BATCH_SIZE", help="Texts of a request.", rich_help_panel=LIMITS)
    ] = 2048,
    payload_limit: Annotated[
        int, typer.Option(min=1, envvar="PAYLOAD_LIMIT", help="Bytes of a request.", rich_help_panel=LIMITS)
    ] = 2_000_000,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that a text may get at most.", rich_help_panel=LIMITS)
    ] = 2048,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that a request may take.", rich_help_panel=LIMITS)
    ] = None,
    drain: Annotated[
        float, typer.Option(min=1, help="Seconds for what was accepted, on SIGTERM.", rich_help_panel=LIMITS)
    ] = 30.0,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Weights of all loaded models, as 4GB: beyond it the one used longest ago is given up.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    kv_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Keys and values of the texts being written.", rich_help_panel=LIMITS)
    ] = "2GiB",
    auto_truncate: Annotated[
        bool,
        typer.Option(
            envvar="AUTO_TRUNCATE",
            help="Cut texts that are too long, unless a request says otherwise.",
            rich_help_panel=TEXTS,
        ),
    ] = True,
    default_prompt_name: Annotated[
        str | None,
        typer.Option(
            envvar="DEFAULT_PROMPT_NAME", help="The model's prompt before embedded texts.", rich_help_panel=TEXTS
        ),
    ] = None,
    default_prompt: Annotated[
        str | None, typer.Option(envvar="DEFAULT_PROMPT", help="A text before embedded texts.", rich_help_panel=TEXTS)
    ] = None,
    quant: Quant = None,
    kv_cache: KvCache = None,
    rerank: Rerank = None,
    threads: Threads = None,
) -> None:
    """Serve models over HTTP: the routes of OpenAI, text-embeddings-inference and rerankers, and a page to try them."""
    try:
        from aerogel.serve.app import create_app
        from aerogel.serve.server import hosts_of, is_loopback, listening, run
    except ImportError as error:
        raise AerogelError(f"serving needs {error.name}: pip install aerogel[serve]") from error
    from aerogel.engine.scheduling import SchedulerOptions
    from aerogel.serve.catalog import entry_of, short_name
    from aerogel.serve.options import ServeOptions
    from aerogel.serve.service import Service

    options = ServeOptions(
        api_key=api_key or None,
        cors=tuple(cors or ()),
        hosts=hosts_of(host, uds),
        payload_limit=payload_limit,
        max_client_batch=max_client_batch_size,
        max_new_tokens=max_new_tokens,
        timeout=timeout,
        auto_truncate=auto_truncate,
        default_prompt=default_prompt,
        default_prompt_name=default_prompt_name,
    )
    scheduling = SchedulerOptions(
        max_batch_tokens=max_batch_tokens,
        max_requests=max_concurrent_requests,
        max_kv_bytes=int(amount(kv_memory, _BYTES, "--kv-memory")),
        max_model_bytes=None if memory is None else int(amount(memory, _BYTES, "--memory")),
    )
    named = [_named(said) for said in models]
    entries = [entry_of(name or short_name(path), path, rerank) for name, path in named]
    makers: dict[str, Model | Callable[[], Model]] = {
        entry.name: partial(_load, entry.path, threads, quant, kv_cache, rerank) for entry in entries
    }
    if len(entries) == 1:  # of several each is loaded when somebody asks for it
        makers[entries[0].name] = makers[entries[0].name]() if memory is None else makers[entries[0].name]  # type: ignore[operator]
    where, address = listening(host, port, uds)
    app = create_app(Service(entries, makers, options, scheduling))
    if uds is None and not is_loopback(host) and options.api_key is None:
        say(f"{host} can be reached from other machines, and no --api-key is set: anybody there is answered")
    run(app, where, partial(say, f"serving {', '.join(entry.name for entry in entries)} on {address}"), drain)


def _named(said: str) -> tuple[str | None, str]:
    """A model's name, if one is given, and its path."""
    name, equal, path = said.partition("=")
    return (name, path) if equal and name and path and "/" not in name else (None, said)


def _load(path: str, threads: int | None, quant: str | None, kv_cache: str | None, rerank: str | None) -> Model:
    from aerogel.engine.model import load

    with progress_bar(f"Measuring {path}", at_once=False) as progress:
        return load(path, threads, quant=quant, kv_cache=kv_cache, rerank=rerank, progress=progress)
