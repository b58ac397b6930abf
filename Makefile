# Everything a person needs: `make run` and `make test`. Nothing is installed outside $(VENV).
# Works with GNU make 3.81 (macOS) and BSD tools.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
# Tests run in this many processes, each file's in one; a third needs another GB of memory.
JOBS ?= 2
# Where torch comes from besides pip's own configuration; for the CPU build see README.md.
TORCH_INDEX ?=
TORCH = torch==2.13.0

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet
INSTALL_TORCH = $(subst --quiet,,$(PIP)) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)"
# distutils knows only the compiler that Python itself was built with; any of these will do.
FIND_COMPILER = if [ -z "$$CC" ]; then for name in cc gcc clang; do \
  if command -v $$name >/dev/null 2>&1; then CC=$$name; export CC; break; fi; done; fi;
SOURCES = pyproject.toml $(wildcard setup.py src/octavo/nn/kernels/*.c src/octavo/nn/kernels/*.h)

.PHONY: run test test-all check sanitize bench bench-kernels clean
.DEFAULT_GOAL = run

run: $(VENV)/.ready-run
	@$(BIN)/octavo serve --host $(HOST) --port $(PORT)

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-all: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

check: $(VENV)/.ready-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py
	@echo "Lines of nn/ and models/ without families/ and tables/ (7,000 are the aim):"
	@find src/octavo/nn src/octavo/models -name '*.py' ! -path '*/families/*' ! -path '*/tables/*' -exec cat {} + | wc -l
	@echo "The ten largest files, in lines:"
	@find src tests benchmarks examples setup.py -name '*.py' | xargs wc -l | sort -rn | sed 1d | head -n 10

# The kernels' tests with AddressSanitizer and UBSan, then ThreadSanitizer, on every level of this machine.
sanitize: $(VENV)/.ready-test
	@$(FIND_COMPILER) $(BIN)/python tests/nn/kernels/sanitize.py

# llama.cpp is built the first time (ten minutes); where it cannot be, the other peers are measured.
bench: $(VENV)/.ready-test
	@$(BIN)/python benchmarks/llama_cpp.py || echo "octavo: going on without llama.cpp" >&2
	@for claim in decode cold_start engine_overhead server_overhead latency training from_pretrained memory_wall; do \
	  echo "== benchmarks/$$claim.py"; $(BIN)/python benchmarks/$$claim.py || exit 1; done

# The kernels alone, on the shapes of three models, beside llama.cpp and the memory bandwidth of the same minutes.
bench-kernels: $(VENV)/.ready-test
	@$(BIN)/python benchmarks/llama_cpp.py || echo "octavo: going on without llama.cpp" >&2
	@for claim in kernels loading fairness; do \
	  echo "== benchmarks/$$claim.py"; $(BIN)/python benchmarks/$$claim.py || exit 1; done

clean:
	rm -rf $(VENV) .venv-ci build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find src tests -name '__pycache__' -type d -prune -exec rm -rf {} +
	find src -name '*.so' -exec rm -f {} +

# The environment itself. Removed again if it cannot be completed, so that the next try starts clean.
$(VENV)/.ready-venv:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "octavo: error: no '$(PYTHON)' on the PATH; install Python 3.11 or newer, or say which: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "octavo: error: $(PYTHON) is `$(PYTHON) -V 2>&1`; Octavo needs 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@echo "octavo: setting up $(VENV) (once)" >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

# What running needs. The kernels are built here; where they cannot be (no C compiler), torch computes instead.
$(VENV)/.ready-run: $(VENV)/.ready-venv $(SOURCES)
	@$(FIND_COMPILER) $(PIP) --editable .
	@$(BIN)/octavo doctor --json >/dev/null 2>&1; if [ $$? = 2 ]; then \
	  echo "octavo: no kernels could be built (no C compiler?), so the torch runner is installed instead: a large download" >&2; \
	  $(INSTALL_TORCH) || exit 1; fi
	@touch $@

# Torch first and pinned, so that no other requirement chooses another build of it.
$(VENV)/.ready-test $(VENV)/.ready-dev: $(VENV)/.ready-%: $(VENV)/.ready-venv $(SOURCES)
	@echo "octavo: adding the extra '$*', torch among it (once)" >&2
	@$(INSTALL_TORCH)
	@$(FIND_COMPILER) $(PIP) --editable ".[$*]"
	@touch $(VENV)/.ready-run $(VENV)/.ready-test $@
