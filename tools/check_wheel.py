"""Looks into the wheel and the source distribution of a folder, and tries the wheel in an environment of its own.

    python tools/check_wheel.py dist

The wheel has to hold the package's files and nothing else; the extension module may need only what every Linux has. It is
then installed into a new virtual environment, and used from a scratch folder: no source is on the path, no extra is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "aerogel"
#: Libraries that the wheel does not bring along.
SYSTEM = re.compile(r"(libc|libm|libpthread|libstdc\+\+|libgcc_s|ld-linux[\w-]*)\.so(\.\d+)?$")
TESTS = ("tests/cli/test_cli.py", "tests/engine/test_model.py", "tests/checkpoint/test_packed_writer.py")


def check_wheel(path: Path) -> list[str]:
    """What is missing in the wheel, and what should not be in it."""
    with zipfile.ZipFile(path) as archive:
        there = {name for name in archive.namelist() if not name.endswith("/")}
    source = (file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    wanted = {
        f"aerogel/{file.relative_to(PACKAGE).as_posix()}" for file in source if file.suffix not in (".so", ".pyc")
    }
    wanted |= {"aerogel/py.typed", "aerogel/bench/data/sentences.txt"}
    extension = {name for name in there if re.match(r"aerogel/_core\.[\w.-]+\.(so|pyd)$", name)}
    more = {name for name in there if not re.match(r"aerogel-[^/]+\.dist-info/", name)} - wanted - extension
    found = [f"{path.name}: lacks {name}" for name in sorted(wanted - there)]
    found += [f"{path.name}: has {name}, which is no file of the package" for name in sorted(more)]
    if len(extension) != 1:
        found.append(f"{path.name}: expected one extension module, got {sorted(extension)}")
    return found


def check_libraries(wheel: Path) -> list[str]:
    if not sys.platform.startswith("linux") or shutil.which("objdump") is None:
        print("SKIPPED: what the extension module needs: no Linux, or no objdump")
        return []
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.match(r"aerogel/_core\..+\.so$", name))
        lines = subprocess.run(
            ["objdump", "-p", archive.extract(name, scratch)], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    words = [line.split() for line in lines if line.strip()]
    needed = [w[1] for w in words if w[0] == "NEEDED"]
    versions = {v for line in lines for v in re.findall(r"\b(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+", line)}
    newest = sorted(versions, key=lambda v: (v.split("_")[0], [int(n) for n in v.split("_")[1].split(".")]))
    print(f"{name}: needs {', '.join(needed)}; versions up to {newest}")
    found = [f"{name}: needs {library}" for library in needed if not SYSTEM.match(library)]
    return found + [f"{name}: looks for libraries in {w[1]}" for w in words if w[0] in ("RPATH", "RUNPATH")]


def check_source(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "CMakeLists.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "csrc/kernels/kernels.inc",
        "python/aerogel/py.typed",
    }
    stray = [name for name in there if name.startswith(("build", "dist", ".")) and name not in (".gitignore", "")]
    found = [f"{path.name}: lacks {name}" for name in sorted(wanted - there)]
    return found + [f"{path.name}: has {name}" for name in sorted(stray)]


def try_wheel(wheel: Path) -> int:
    """Installs and uses it. Returns the first exit status that is not 0."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AEROGEL_STRICT_SKIPS")}
    with tempfile.TemporaryDirectory(prefix="aerogel-wheel-") as scratch:
        place = Path(scratch)
        # The tests alone, where no source of the package is.
        shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        (place / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "try_installed.py", place / "tools")
        bin = place / "venv" / "bin"
        environment["PYTHONPATH"] = str(place)
        for command in (
            [sys.executable, "-m", "venv", str(place / "venv")],
            [str(bin / "python"), "-m", "pip", "install", "-q", f"{wheel.resolve()}[test]"],
            [str(bin / "aerogel"), "--version"],
            [str(bin / "python"), "tools/try_installed.py"],
            [str(bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        ):
            print("+", " ".join(command), flush=True)
            status = subprocess.run(command, cwd=place, env=environment, check=False).returncode
            if status:
                return status
    return 0


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    wheels, sources = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sources) != 1:
        print(f"{folder}: expected one wheel and one source distribution, got {[*wheels, *sources]}", file=sys.stderr)
        return 1
    found = check_wheel(wheels[0]) + check_libraries(wheels[0]) + check_source(sources[0])
    print("\n".join(found) or f"{wheels[0].name}, {sources[0].name}: everything in them, and nothing else")
    return try_wheel(wheels[0]) or int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
