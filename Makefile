# Every target does its own set-up: `make demo` and `make test` work from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint typecheck format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv and install nstbench with all that its tests need

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nstbench needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## repaint a photograph, then run a small sweep and report on it (no files, no network)
	$(BIN)/nstbench run study=demo
	$(BIN)/nstbench run -m experiment=demo hydra/launcher=pool
	$(BIN)/nstbench compare outputs/demo_sweep
	$(BIN)/nstbench report outputs/demo_sweep

test: $(READY)  ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY)  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ''

lint: $(READY)  ## check style, and which folder imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: $(READY)  ## check types
	$(BIN)/mypy

format: $(READY)  ## mend style where it can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, caches and builds; results in outputs/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
