#!/bin/sh
# Compiles what lies under the bindings, csrc without bindings/, once for the wheels of all Pythons: build/core/libaerogel_core.a.
# cibuildwheel runs it before the first wheel of a platform (pyproject.toml). cmake and ninja come as Python packages where there are none.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cmake >/dev/null || ! command -v ninja >/dev/null; then
  python=python3
  for newer in /opt/python/cp312-cp312/bin/python; do if [ -x "$newer" ]; then python=$newer; fi; done  # of the manylinux images
  "$python" -m venv build/core-tools
  build/core-tools/bin/python -m pip install -q cmake ninja
  PATH=$PWD/build/core-tools/bin:$PATH
fi
rm -rf build/core  # may be of another platform, seen from a container
cmake -S . -B build/core -G Ninja -DCMAKE_BUILD_TYPE=Release -DAEROGEL_PYTHON=OFF -DAEROGEL_TESTS=OFF
cmake --build build/core --target aerogel_core
