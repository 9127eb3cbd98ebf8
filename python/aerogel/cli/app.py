"""The `aerogel` program: its commands, the options of the program itself, and one line per error."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Annotated

import typer

#: In the order of `aerogel --help`. Each is a file of this folder (- is _ there) with a function `command`: its parameters
#: are the arguments, its docstring the help. What takes long to import is imported when a command runs.
COMMANDS = (
    "compress",
    "export",
    "info",
    "embed",
    "embed-dataset",
    "generate",
    "chat",
    "bench",
    "explain",
    "eval",
    "sweep",
    "distill",
    "finetune",
    "demo",
)

app = typer.Typer(
    name="aerogel",
    help="Compressed Transformers on CPUs: prune and quantize a model, then run it faster than the dense one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name in COMMANDS:
    app.command(_name)(import_module(f"aerogel.cli.{_name.replace('-', '_')}").command)


def _version(wanted: bool) -> None:
    if wanted:
        import aerogel

        typer.echo(f"aerogel {aerogel.__version__} ({aerogel.isa()})")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, and on which ISA.")] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error (or set AEROGEL_DEBUG=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and the ISA.")
    ] = False,
) -> None:
    """Options of the program itself."""
    logging.basicConfig(format="aerogel: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("aerogel").setLevel(logging.INFO if verbose else logging.WARNING)
    if debug:
        os.environ["AEROGEL_DEBUG"] = "1"


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends the program as an error would, so that nothing half-written stays."""
    raise SystemExit(128 + number)


def main() -> None:
    """The console script: errors are one line on stderr and exit code 1."""
    from aerogel.errors import AerogelError

    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal or pipe cannot show is escaped, not an error
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (AerogelError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):  # `aerogel embed ... | head`: nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if os.environ.get("AEROGEL_DEBUG", "0") not in ("", "0"):
            raise
        sys.stderr.write(f"aerogel: {str(error) or 'not enough memory'}\n")
        sys.exit(1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
