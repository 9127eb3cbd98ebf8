# Everything that is built, tested and shown here. What a machine needs: Python >= 3.10 with venv, and a C++17 compiler.
# The rest (cmake, ninja, Python packages) goes into .venv/ and build/, and `make clean` removes it.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# cmake, ninja and ruff are those of .venv where it has them, the system's otherwise.
export PATH := $(BIN):$(PATH)

# What `make test FULL=1` adds: PyTorch and what exports and plots are checked with. For PyTorch's CPU build, where the index that
# pip uses has it beside larger ones, name it: TORCH=torch==2.13.0.
TORCH ?= torch>=2.6
EXTRAS := "transformers>=4.40" sentence-transformers accelerate "matplotlib>=3.7" langchain-core llama-index-core haystack-ai "ray[data,serve]>=2.40" \
  starlette uvicorn msgspec orjson prometheus-client openai langchain-openai \
  llama-index-embeddings-openai-like llama-index-llms-openai-like
# Another version may format otherwise, or find more.
RUFF := ruff==0.17.6
MYPY := mypy==2.4.1

# As in the extra [docs] of pyproject.toml.
SITE := "mkdocs>=1.6,<2" "mkdocs-material>=9.5" "mkdocstrings[python]>=0.27"

# Processes that run the Python tests.
JOBS ?= auto --maxprocesses=4
PYTEST = MALLOC_PERTURB_=255 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

# Seconds for each target of `make fuzz`.
SECONDS ?= 60

# Substrings of the names of the C++ tests, for `make cpp-test`, `neon`, `clang`, `sanitize` and `emulate`; none is all.
ONLY ?=

PACKAGE_SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc python -type f -not -path '*/__pycache__/*' 2>/dev/null)
BUILD_TOOLS := "scikit-build-core>=0.10" "pybind11>=2.12"

.DEFAULT_GOAL := help
.PHONY: help install test cpp-test py-test isa-test docs site demo bench sanitize neon clang emulate isa-leak lint \
  format types wheel fuzz fuzz-api fuzz-decoder fuzz-gguf fuzz-safetensors fuzz-packed clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## the package, in .venv, rebuilt only where sources changed

# FULL=1: with PyTorch, Transformers and two real models (downloads 400 MB), and skips that nobody allowed are failures.
FULL ?=
test: cpp-test py-test  ## all tests of this machine's instruction sets, C++ and Python; FULL=1: with all extras and real models

cpp-test: $(VENV)/tools  ## the C++ tests
	cmake --preset release -Wno-dev
	cmake --build --preset release
	build/release/aerogel_tests $(ONLY)

# glibc fills memory that is freed with 0xFF: what reads it by mistake finds NaN, not luck.
py-test: $(VENV)/installed $(if $(FULL),$(VENV)/extras)  ## the Python tests; FULL=1 as `make test`
	$(if $(FULL),AEROGEL_STRICT_SKIPS=1 AEROGEL_TEST_MODELS=1) $(PYTEST)

# What kernels compute, from Python. The rest of the tests does not depend on the instruction set.
ISA_TESTS := tests/engine tests/architectures tests/calibrate tests/checkpoint/test_packed_small.py
isa-test: $(VENV)/installed  ## the Python tests that run kernels, with AEROGEL_ISA=scalar and avx2
	@status=0; for isa in scalar avx2; do \
	  case " $$($(BIN)/python -c 'from aerogel import _core; print(*_core.supported_isas())') " in \
	    " $$isa "*) echo "isa-test: $$isa is what this machine uses anyway"; continue;; \
	    *" $$isa "*) ;; \
	    *) echo "SKIPPED: isa-test: this CPU has no $$isa"; continue;; esac; \
	  echo "isa-test: AEROGEL_ISA=$$isa"; \
	  AEROGEL_ISA=$$isa $(PYTEST) $(ISA_TESTS) || status=1; \
	done; exit $$status

docs: $(VENV)/installed $(VENV)/extras  ## runs what the documentation shows, with real models
	AEROGEL_TEST_MODELS=1 $(BIN)/python tools/check_docs.py

site: $(VENV)/site  ## the documentation as a site, in build/site/; a link to nothing is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs -q build

demo: $(VENV)/installed  ## compress a real model and search with it, beside its dense forms
	$(BIN)/python -m aerogel demo

bench: $(VENV)/installed  ## the benchmarks of the kernels
	$(BIN)/python -m pytest benchmarks

sanitize: $(VENV)/tools  ## the C++ tests under the address and undefined-behaviour sanitizers, those with threads under the thread sanitizer
	cmake --preset asan -Wno-dev && cmake --build --preset asan
	build/asan/aerogel_tests $(ONLY)
	cmake --preset tsan -Wno-dev && cmake --build --preset tsan
	TSAN_OPTIONS=halt_on_error=1 build/tsan/aerogel_tests $(or $(ONLY),team rotary runtime chains shares packed_linear)

neon: $(VENV)/tools  ## the C++ tests for 64-bit Arm, under qemu
	@if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then \
	  echo "SKIPPED: neon: needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu qemu-user)"; exit 0; fi; \
	cmake --preset aarch64 -Wno-dev && cmake --build --preset aarch64 && \
	AEROGEL_UNDER_QEMU=1 qemu-aarch64 -cpu max build/aarch64/aerogel_tests $(ONLY)

clang: $(VENV)/tools  ## the C++ tests, compiled with clang
	@if ! command -v clang++ >/dev/null; then echo "SKIPPED: clang: needs clang++"; exit 0; fi; \
	cmake --preset clang -Wno-dev && cmake --build --preset clang && build/clang/aerogel_tests $(ONLY)

emulate: $(VENV)/tools  ## the C++ tests of the AVX-512 kernels, on an emulated CPU (slow)
	cmake --preset release -Wno-dev -DAEROGEL_STATIC=ON
	cmake --build --preset release
	@AEROGEL_ISA=$${AEROGEL_ISA:-avx512vnni} tools/emulate_avx512.sh build/release/aerogel_tests $(ONLY); \
	  status=$$?; [ $$status -eq 77 ] || exit $$status

isa-leak: $(VENV)/tools  ## no code for one instruction set may be linked in place of another's
	cmake --preset release -Wno-dev
	cmake --build --preset release
	$(PYTHON) tools/check_isa_leak.py build/release

lint: $(VENV)/ruff  ## ruff over the Python sources, and whether they are formatted
	$(BIN)/ruff check python tests benchmarks tools examples
	$(BIN)/ruff format --check python tests benchmarks tools examples

types: $(VENV)/installed $(VENV)/extras $(VENV)/mypy  ## mypy, strict, over the package
	$(BIN)/python -m mypy

# The wheel is built from the source distribution, by itself: what that lacks is missed here. Its objects lie as deep below the
# sources as those of the presets, so that ccache knows them.
wheel: $(VENV)/created  ## dist/: source distribution and wheel, the wheel tried in an environment of its own
	$(BIN)/python -m pip install -q build
	rm -rf dist
	$(BIN)/python -m build -C build-dir=build/wheel
	$(BIN)/python tools/check_wheel.py dist

# What is found lies in build/fuzz/, with the corpus so far. -j2 runs two at a time.
fuzz: fuzz-api fuzz-decoder fuzz-gguf fuzz-safetensors fuzz-packed  ## fuzzes the public API, the entropy decoder and the readers, SECONDS=60 each

# SEED=7: other calls. What is found is printed with the seed and the number of the call, which make it again.
SEED ?= 0
fuzz-api: $(VENV)/installed  ## calls everything public with hostile arguments, files and command lines
	@status=0; for what in arguments files commands; do \
	  $(BIN)/python -m tests.fuzz.api.run --what $$what --seed $(SEED) --seconds $(SECONDS) || status=1; \
	done; exit $$status

fuzz-decoder: $(VENV)/tools
	@mkdir -p build/fuzz/decoder; \
	if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' | \
	  clang++ -fsanitize=fuzzer,address -x c++ - -o build/fuzz/trial 2>/dev/null; then \
	  echo "SKIPPED: fuzz-decoder: needs clang++ and its libFuzzer (Debian: clang libclang-rt-14-dev, or as clang's version is)"; exit 0; fi; \
	cmake --preset fuzz -Wno-dev && cmake --build --preset fuzz && \
	build/fuzz/aerogel_fuzz_decoder build/fuzz/decoder -max_total_time=$(SECONDS) -max_len=16384 -timeout=20 \
	  -rss_limit_mb=2048 -artifact_prefix=build/fuzz/decoder- -verbosity=0 -print_final_stats=1

fuzz-gguf fuzz-safetensors fuzz-packed: fuzz-%: $(VENV)/installed $(VENV)/atheris
	@if ! $(BIN)/python -c 'import atheris' 2>/dev/null; then echo "SKIPPED: $@: needs the Python package atheris"; exit 0; fi; \
	$(BIN)/python tests/fuzz/run_python.py $* $(SECONDS) build/fuzz/$*

format: $(VENV)/ruff  ## ruff formats the Python sources and sorts their imports
	$(BIN)/ruff format python tests benchmarks tools examples
	$(BIN)/ruff check --fix python tests benchmarks tools examples

clean:  ## removes .venv/, build/ and dist/
	rm -rf $(VENV) build dist

# ---- what is made once, and again when what it depends on changes

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python >= 3.10 is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# cmake and ninja as wheels, where the system has none or too old a one.
$(VENV)/tools: $(VENV)/created
	@cmake --version 2>/dev/null | $(BIN)/python -c 'import re, sys; v = re.search(r"(\d+)\.(\d+)", sys.stdin.read()); \
	  sys.exit(not v or (int(v[1]), int(v[2])) < (3, 21))' || $(BIN)/python -m pip install -q cmake
	@command -v ninja >/dev/null || $(BIN)/python -m pip install -q ninja
	@touch $@

$(VENV)/ruff: $(VENV)/created
	$(BIN)/python -m pip install -q $(RUFF)
	@touch $@

$(VENV)/mypy: $(VENV)/created
	$(BIN)/python -m pip install -q $(MYPY) types-PyYAML
	@touch $@

$(VENV)/extras: $(VENV)/created
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q $(EXTRAS)
	@touch $@

$(VENV)/site: $(VENV)/created
	$(BIN)/python -m pip install -q $(SITE)
	@touch $@

# There is a wheel for Linux only, and to build it takes clang's own sources.
$(VENV)/atheris: $(VENV)/created
	-$(BIN)/python -m pip install -q --only-binary=:all: atheris
	@touch $@

# The build tools stay in .venv and the objects in build/, so that a change recompiles only what it touches. What lies under the
# bindings is compiled once, for the C++ tests and for the package.
$(VENV)/build-tools: $(VENV)/tools
	$(BIN)/python -m pip install -q $(BUILD_TOOLS)
	@touch $@

$(VENV)/installed: $(VENV)/build-tools $(PACKAGE_SOURCES)
	cmake --preset release -Wno-dev
	cmake --build --preset release --target aerogel_core
	$(BIN)/python -m pip install --no-build-isolation --config-settings=build-dir=build/python \
	  --config-settings=cmake.define.AEROGEL_CORE=$(CURDIR)/build/release/libaerogel_core.a ".[test]"
	@touch $@
