"""Runs what the documentation shows, and checks the commands, options, names and files that it mentions.

    python tools/check_docs.py [DOCUMENT...]

Every fenced block of README.md, CONTRIBUTING.md and docs/ is run, in order, in a scratch folder with stand-ins for the
files that it names; or it is in NOT_RUN below, with the reason. A block that is neither fails, and so does an entry of
NOT_RUN that no block needs. Commands are run as they stand: what makes them quick is small files.

Models are real where AEROGEL_MINILM and AEROGEL_SMOLLM2 name them or AEROGEL_TEST_MODELS=1 fetches them, tiny otherwise. Of
the real encoder all but the first layer is left out: what takes minutes with six layers is the same with one.
Needs the extras [test], [train] and [bench].
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT))  # for tests/, which can write tiny models
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "examples/README.md"),
    *sorted(
        file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md") if file.parent.name != "results"
    ),
]

#: Document, how a block or a command line in it begins, and why it is not run.
NOT_RUN = [
    ("README.md", "make demo", "builds first; a section of its own in .ci/run"),
    ("README.md", "make test", "builds first; the sections of .ci/run are its parts"),
    ("README.md", "aerogel distill", "takes the hour that it says; tests/cli/test_train.py distills for seconds"),
    ("docs/compression.md", "aerogel distill path/to/model -o overnight", "takes a night; the dry run below it is run"),
    ("docs/compression.md", "until [ -d overnight ]", "the same"),
    ("README.md", "aerogel embed-dataset", "starts Ray; tests/ray runs it"),
    ("README.md", "aerogel serve", "serves until it is told to stop; tests/serve/test_process.py runs it"),
    ("docs/serving.md", "aerogel serve", "the same"),
    ("docs/serving.md", 'pip install "aerogel[serve]"', "installs"),
    ("docs/serving.md", "location / {", "of a proxy"),
    ("docs/serving.md", "from openai import OpenAI", "needs a server; tests/serve/test_clients.py asks one"),
    ("CONTRIBUTING.md", "make", "builds first; .ci/run runs the targets"),
    ("docs/packaging.md", "docker run", "needs an image"),
    ("docs/index.md", "pip install aerogel", "installs; make wheel tries the wheel in an environment of its own"),
    ("docs/architecture.md", "flowchart LR\n  subgraph offline", "a diagram"),
    ("docs/architecture.md", "flowchart LR\n  source[checkpoint] --> structure", "a diagram"),
    ("docs/architecture.md", "cli/            the command line", "a picture of the rooms"),
    ("docs/architecture.md", "token_ids   7592", "a drawing"),
    ("docs/file-format.md", "model/", "a list of files"),
    ("docs/file-format.md", "              byte 0", "a drawing"),
    ("docs/file-format.md", "code[n,k] =", "a formula"),
    ("docs/scale.md", "aerogel embed-dataset", "starts Ray; tests/ray runs it"),
    ("docs/scale.md", "import ray, aerogel", "needs a bucket; tests/ray runs it on local files"),
    ("docs/kernels.md", "              window of 16", "a drawing"),
    ("docs/kernels.md", "one step, 24 bytes", "a drawing"),
]

#: What Python blocks take from the text around them.
GIVEN = {
    "README.md": """
import numpy as np, scipy.sparse
token_ids, offsets = np.arange(1, 8, dtype=np.int32), np.array([0, 3, 7], np.int32)
weight, bias, x = np.eye(8, 16, dtype=np.float32), np.zeros(8, np.float32), np.ones((16, 2), np.float32)
scipy_csr = scipy.sparse.random(8, 16, 0.2, format="csr", dtype=np.float32)
""",
    "docs/compression.md": """
import aerogel, aerogel.train, torch
model = torch.nn.Linear(4, 4)
with torch.no_grad():
    model.weight[0] = 0
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(1, 4)).sum().backward()
""",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: where its text begins, and in which language it is."""

    document: str
    line: int
    language: str
    text: str


def read(document: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """The blocks of a document, and the other lines with their numbers."""
    blocks, rest, begin, language = [], [], 0, ""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            if begin:
                blocks.append(Block(document, begin + 1, language, "\n".join(lines[begin : number - 1])))
                begin = 0
            else:
                begin, language = number, line.strip().removeprefix("```")
        elif not begin:
            rest.append((number, line))
    if begin:
        raise SystemExit(f"{document}: line {begin}: a block that does not end")
    return blocks, rest


class Checks:
    """What was run, what was not, and what was wrong."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.not_run: list[tuple[str, str, str]] = []

    def fail(self, where: str, what: str) -> None:
        self.failures.append(f"{where}: {what}")
        print(f"{where}: WRONG: {what}", flush=True)

    def excused(self, where: str, document: str, text: str) -> bool:
        for entry in NOT_RUN:
            if entry[0] == document and text.startswith(entry[1]):
                self.not_run.append(entry)
                print(f"{where}: not run ({entry[2]}): {text.splitlines()[0].strip()}", flush=True)
                return True
        return False


# --- blocks


def texts() -> list[str]:
    from aerogel.bench import sentences

    return [line for lines in sentences().values() for line in lines]


def stand_ins(folder: Path) -> None:
    """The files that the documents name."""
    from tests import tiny_models
    from tests.checkpoint import tiny_files

    encoder, decoder = real_models()
    (folder / "path" / "to").mkdir(parents=True)
    if encoder is None:
        config = {**tiny_models.BERT, "hidden_size": 96, "num_attention_heads": 12, "max_position_embeddings": 128}
        weights = tiny_models.bert_weights(config)
        tiny_models.write(folder / "path" / "to" / "model", config, weights, pooling=("mean", True))
    else:
        write_shallow(encoder, folder / "path" / "to" / "model")
    if decoder is None:
        tiny_files.write_gguf(folder / "model.gguf")
    else:
        (folder / "model.gguf").symlink_to(decoder)
    write_heads(folder)
    (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").symlink_to(folder / "model.gguf")
    lines = texts()
    (folder / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pairs = [(a, b, 5 - abs(i - j)) for (i, a), (j, b) in itertools.combinations(enumerate(lines), 2) if j - i < 4]
    (folder / "dev.csv").write_text("".join(f'"{a}","{b}",{score}\n' for a, b, score in pairs), encoding="utf-8")


def write_shallow(model: Path, target: Path, layers: int = 1) -> None:
    """A real BERT with its first layers only."""

    shutil.copytree(model, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    weights = load_file(target / "model.safetensors")
    deep = re.compile(r"(?:^|\.)layer\.(\d+)\.")
    kept = {name: a for name, a in weights.items() if not (found := deep.search(name)) or int(found[1]) < layers}
    save_file(kept, target / "model.safetensors")


def write_heads(folder: Path) -> None:
    """Tiny models with heads."""
    from tests import tiny_models

    width = tiny_models.BERT["hidden_size"]
    labels = {"id2label": {"0": "O", "1": "PLACE"}}
    heads: dict[str, tuple[str, str | None, dict[str, Any]]] = {
        "reranker": ("BertForSequenceClassification", None, {"id2label": {"0": "score"}}),
        "classifier": ("BertForSequenceClassification", None, {"id2label": {"0": "good", "1": "bad"}}),
        "ner": ("BertForTokenClassification", "classifier", labels),
        "qa": ("BertForQuestionAnswering", "qa_outputs", {}),
        "splade": ("BertForMaskedLM", None, {}),
    }
    for name, (kind, linear, more) in heads.items():
        config = {**tiny_models.BERT, "architectures": [kind], **more}
        weights = tiny_models.bert_weights(config)
        if linear is not None:
            weights = {key: value for key, value in weights.items() if not key.startswith("pooler.")}
            weights[f"{linear}.weight"], weights[f"{linear}.bias"] = np.ones((2, width), "f4"), np.zeros(2, "f4")
        tiny_models.write(folder / name, config, weights, prefix="bert.")


def real_models() -> tuple[Path | None, Path | None]:
    found: list[Path | None] = []
    for variable, name in (("AEROGEL_MINILM", "all-MiniLM-L6-v2"), ("AEROGEL_SMOLLM2", "SmolLM2-135M-Instruct")):
        if path := os.environ.get(variable):
            found.append(Path(path).resolve())
        elif os.environ.get("AEROGEL_TEST_MODELS") == "1":
            from aerogel.checkpoint.samples import fetch

            found.append(fetch(name))
        else:
            print(f"{name}: a tiny model takes its place; AEROGEL_TEST_MODELS=1 fetches it", flush=True)
            found.append(None)
    return found[0], found[1]


def run_shell(line: str, folder: Path) -> str | None:
    """The output's end if the line fails."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")
    environment = {**os.environ, "PATH": path, "COLUMNS": "200"}
    command = ["bash", "-euo", "pipefail", "-c", line]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900
        )
    except subprocess.TimeoutExpired:
        return "not done after 900 s"
    return None if done.returncode == 0 else f"exit status {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}"


def run_python(code: str, names: dict[str, Any], where: str) -> str | None:
    try:
        exec(compile(code, where, "exec"), names)
    except Exception:
        return traceback.format_exc()
    return None


def run_recipe(text: str, folder: Path) -> str | None:
    """A YAML block is a recipe: it has to compress a model."""
    (folder / "r.yaml").write_text(text, encoding="utf-8")
    return run_shell("aerogel compress path/to/model -o of-a-recipe --overwrite --recipe r.yaml", folder)


def run_blocks(document: str, blocks: list[Block], checks: Checks, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": document}
    if document in GIVEN and (wrong := run_python(GIVEN[document], names, f"GIVEN[{document!r}]")):
        checks.fail(document, wrong)
    for block in blocks:
        where = f"{document}:{block.line}"
        if block.language == "sh":
            for offset, line in enumerate(block.text.splitlines()):
                if line.strip() and not checks.excused(f"{document}:{block.line + offset}", document, line.strip()):
                    timed(checks, f"{document}:{block.line + offset}", line, lambda line=line: run_shell(line, folder))
        elif checks.excused(where, document, block.text):
            continue
        elif block.language == "python":
            timed(checks, where, block.text, lambda block=block, where=where: run_python(block.text, names, where))
        elif block.language == "yaml":
            timed(checks, where, block.text, lambda block=block: run_recipe(block.text, folder))
        else:
            checks.fail(where, f"a block of {block.language or 'no language'} that is neither run nor in NOT_RUN")


def timed(checks: Checks, where: str, text: str, run: Any) -> None:
    started = time.monotonic()
    wrong = run()
    if wrong is None:
        print(f"{where}: ok, {time.monotonic() - started:.1f} s: {text.splitlines()[0].strip()[:100]}", flush=True)
    else:
        checks.fail(where, f"{text.splitlines()[0].strip()}\n{wrong}")


# --- what is mentioned

SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)")
VARIABLE = re.compile(r"\bAEROGEL_[A-Z0-9_]+\b")
FOLDERS = ("csrc/", "python/", "tests/", "tools/", "docs/", "benchmarks/", "examples/", "notebooks/")


class Mentions:
    """Commands, options, variables, targets, names and files that there are."""

    def __init__(self) -> None:
        import typer.main

        from aerogel.cli.app import app

        program: Any = typer.main.get_command(app)
        common = {"--help", "-h", *(option for p in program.params for option in p.opts)}
        self.commands = {
            name: common | {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
            for name, command in program.commands.items()
        }
        # Options of other programs that the documents name: of ours, and of cmake, pip and git.
        scripts = [ROOT / "Makefile", *(ROOT / "tools").glob("*.*"), *(ROOT / "benchmarks").glob("*.py")]
        self.others = set(
            re.findall(r"(?<![\w-])--?[a-z][\w-]*", "".join(s.read_text(encoding="utf-8") for s in scripts))
        )
        self.targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
        places = [ROOT / name for name in ("csrc", "python", "tests", "tools")]
        files = [
            file for place in places for file in place.rglob("*") if file.suffix in (".h", ".cpp", ".py", ".inc", ".sh")
        ]
        files += [ROOT / "CMakeLists.txt", ROOT / "Makefile", ROOT / "CMakePresets.json"]
        source = "".join(file.read_text(encoding="utf-8") for file in files)
        self.variables = set(VARIABLE.findall(source))

    def wrong(self, span: str) -> Iterator[str]:
        """What is amiss in a piece of code."""
        for name in VARIABLE.findall(span):
            if name not in self.variables and "<" not in span:
                yield f"nothing reads {name}"
        if (place := re.match(r"[\w./-]+$", span)) and span.startswith(FOLDERS) and not (ROOT / place[0]).exists():
            yield f"there is no file {span}"
        if name := re.match(r"(aerogel(?:\.\w+)+)", span):
            yield from self.wrong_name(name[1])
        try:
            words = shlex.split(span, comments=True)
        except ValueError:  # an apostrophe: no command
            return
        for at, word in enumerate(words):
            if word == "make" and at + 1 < len(words):
                for target in itertools.takewhile(lambda w: re.match(r"[a-z-]+$", w), words[at + 1 :]):
                    if target not in self.targets:
                        yield f"there is no make {target}"
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
        if words[:1] == ["aerogel"] and len(words) > 1:
            if re.match(r"[a-z][a-z-]*$", words[1]) and words[1] not in self.commands:
                yield f"there is no aerogel {words[1]}"
            known = self.commands.get(words[1], set().union(*self.commands.values()))
        elif words and words[0].startswith("--"):
            known = self.others.union(*self.commands.values())
        else:
            return
        yield from (f"there is no {option} in: {span}" for option in options if option not in known)

    @staticmethod
    def wrong_name(name: str) -> Iterator[str]:
        module, *members = name.split(".")
        thing: Any = importlib.import_module(module)
        for member in members:
            module = f"{module}.{member}"
            if not hasattr(thing, member):
                try:
                    importlib.import_module(module)
                except ModuleNotFoundError:
                    yield f"there is no {name}"
                    return
            thing = getattr(thing, member)


def check_mentions(
    document: str, blocks: list[Block], rest: list[tuple[int, str]], there: Mentions, checks: Checks
) -> None:
    for number, line in rest:
        for span in SPAN.findall(line):
            for wrong in there.wrong(span):
                checks.fail(f"{document}:{number}", wrong)
        for link in LINK.findall(line):
            if link and not (ROOT / document).parent.joinpath(link).exists():
                checks.fail(f"{document}:{number}", f"a link to nothing: {link}")
    for block in blocks:
        for offset, line in enumerate(block.text.splitlines() if block.language == "sh" else []):
            for wrong in there.wrong(line):
                checks.fail(f"{document}:{block.line + offset}", wrong)


def main() -> int:
    chosen = sys.argv[1:] or DOCUMENTS
    checks, there = Checks(), Mentions()
    for document in chosen:
        blocks, rest = read(document)
        check_mentions(document, blocks, rest, there, checks)
        if not blocks:
            continue
        with tempfile.TemporaryDirectory(prefix="aerogel-docs-") as scratch:
            stand_ins(Path(scratch))
            os.chdir(scratch)
            run_blocks(document, blocks, checks, Path(scratch))
            os.chdir(ROOT)
    for entry in NOT_RUN:
        if entry[0] in chosen and entry not in checks.not_run:
            checks.fail(entry[0], f"NOT_RUN names a block that is not there: {entry[1]!r}")
    print(f"{len(chosen)} documents, {len(checks.not_run)} blocks or lines not run, {len(checks.failures)} wrong")
    return int(bool(checks.failures))


if __name__ == "__main__":
    sys.exit(main())
