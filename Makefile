# What a developer types. `make setup` costs nothing unless pyproject.toml or constraints.txt changed.

PYTHON  ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP   := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Networks that are not part of the repository; the tests that want them skip without.
ifndef LIPCERT_TEST_DATA
ifneq ($(wildcard ../shared/data),)
export LIPCERT_TEST_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help setup demo test lint format bench docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## create .venv with lipcert (editable) and the tools
	@:

# hatchling comes first, and without build isolation, so that it is pinned like the rest.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lipcert needs Python 3.11 or newer, try: make setup PYTHON=python3.11")'
	@echo "Installing lipcert and its dependencies into $(VENV) (minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt hatchling
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: setup  ## bound the Lipschitz constant of a small network, with proof
	$(BIN)/lipcert bound models/digits_relu.onnx

# One thread per worker: the workers share the cores already.
test: export OMP_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: setup  ## run the tests but the slow ones (PYTEST_ARGS="-k norms", PYTEST_ARGS="-m slow", WORKERS=4)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" $(PYTEST_ARGS)

lint: setup  ## style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## rewrite the code in the common style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## speed and tightness
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs  ## build the pages of docs/ into site/ (open site/index.html)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

# Not among the tools of setup: no test needs them.
$(VENV)/.docs: $(STAMP)
	@echo "Installing what builds the pages into $(VENV)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[docs]'
	@touch $@

clean:  ## remove .venv, caches and built files
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
