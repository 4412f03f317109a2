# One verb a line; `make help` lists them. Everything runs inside .venv, which the first verb creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install check test test-deep demo bench docs clean

help:            ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[demo]' --group dev
	touch $(STAMP)

install: $(STAMP) ## create .venv and install pgpeer with everything the other verbs need

check: $(STAMP)  ## format, lint, types, import stair, SQL lints
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

test: $(STAMP)   ## the whole test suite on real PostgreSQL, short profiles
	$(BIN)/python -m pytest -q

test-deep: $(STAMP) ## the merge against the oracle, many more examples
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest -q tests/merge

demo: $(STAMP)   ## two databases, a hub, two workers and real data: the main job, shown
	$(BIN)/pgpeer demo

bench: $(STAMP)  ## measure, side by side with built-in logical replication
	$(BIN)/python -m bench

docs: $(STAMP)   ## check that the reference pages agree with the code
	$(BIN)/python -m pytest -q tests/house/test_docs.py

clean:           ## remove what the verbs made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
