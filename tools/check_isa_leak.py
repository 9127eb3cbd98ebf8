"""Fails if an object file compiled for an instruction set beyond the baseline defines a weak symbol.

    python tools/check_isa_leak.py BUILD_DIR

The linker keeps one of several weak definitions, whichever it meets first. An inline function or a template in a kernel
file is one, compiled with that file's flags: kept for the whole program, it dies on a CPU without those instructions.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ISA_FLAG = re.compile(r"-m(avx\S*|fma|f16c|sse[34]\S*|bmi\S*|arch=\S+|cpu=\S+)$")
# Defined weak functions (W), objects (V) and unique globals (u).
WEAK = "WVu"
# A pointer to the exception handler, data that is the same whatever the flags.
HARMLESS = re.compile(r"^DW\.ref\.__gxx_personality_v\d+$")


def kernel_objects(build: Path) -> list[Path]:
    """The object files whose compile command names an instruction set."""
    commands = json.loads((build / "compile_commands.json").read_text())
    objects = []
    for entry in commands:
        words = entry["command"].split()
        if any(ISA_FLAG.match(word) for word in words):
            objects.append(Path(entry["directory"]) / words[words.index("-o") + 1])
    return objects


def weak_symbols(path: Path) -> list[str]:
    """The weak symbols that an object file defines, demangled."""
    lines = subprocess.run(["nm", "-C", str(path)], check=True, capture_output=True, text=True).stdout.splitlines()
    found = [line.split(maxsplit=2) for line in lines if re.match(r"[0-9a-f]+ \w ", line)]
    return [name for _, kind, name in found if kind in WEAK and not HARMLESS.match(name)]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    build = Path(sys.argv[1])
    objects = kernel_objects(build)
    leaks = [(path, name) for path in objects for name in weak_symbols(path)]
    for path, name in leaks:
        print(f"{path.relative_to(build.resolve())}: weak symbol {name}")
    print(f"{len(objects)} kernel objects, {len(leaks)} weak symbols")
    if not objects:
        print("no kernel objects: nothing was checked", file=sys.stderr)
    return int(bool(leaks) or not objects)


if __name__ == "__main__":
    sys.exit(main())
