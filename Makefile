# The two commands: `make demo` and `make test`. Each sets everything up first; a second call
# installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := pipeline recaption vae packing dit deploy
VIDEOS ?=
OUT ?= $(if $(VIDEOS),demo-videos,demo-out)

.PHONY: setup demo test test-fast check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"PYTHON: got {v[0]}.{v[1]}; accepted: 3.11 or newer, as in make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/openreel demo --output $(OUT) $(if $(VIDEOS),--videos $(VIDEOS))

test: check
	$(BIN)/python -m pytest

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not slow"

# mypy sees what a user gets: a normal install, beside the editable one.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	rm -rf build/check && $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target build/check .
	MYPYPATH=build/check $(BIN)/mypy $(addprefix -p openreel.,$(PACKAGES))

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.run $(ONLY)

clean:
	rm -rf build dist *.egg-info
