# One verb a line; `make help` lists them. Everything runs inside .venv, which the first verb creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install check test test-deep test-faults test-soak test-large test-sim test-nat test-hub-load fuzz demo bench docs clean

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
	$(BIN)/python -m pytest -q -n 4 --dist worksteal --durations 25

test-deep: $(STAMP) ## the merge against the oracle, many more examples
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest -q tests/merge

test-faults: $(STAMP) ## kill workers, PostgreSQL and the hub a thousand times, and audit
	PGPEER_FAULT_KILLS=1000 $(BIN)/python -m pytest -q --timeout 0 tests/faults

test-soak: $(STAMP) ## half an hour at 500 transactions a second on both sides: nothing but history grows
	PGPEER_SOAK_SECONDS=$${PGPEER_SOAK_SECONDS:-1800} PGPEER_SOAK_RATE=$${PGPEER_SOAK_RATE:-500} $(BIN)/python -m pytest -q -s --timeout 0 tests/soak/test_soak.py

test-large: $(STAMP) ## one transaction of ten million rows, with bounded memory (an hour)
	PGPEER_LARGE_ROWS=$${PGPEER_LARGE_ROWS:-10000000} $(BIN)/python -m pytest -q -s --timeout 0 tests/soak/test_large_transaction.py

test-sim: $(STAMP) ## peers in virtual time under faults, 10,000 seeds; a failing one becomes a file
	PGPEER_SIMULATOR_SEEDS=10000 $(BIN)/python -m pytest -q --timeout 0 tests/simulator

test-nat: $(STAMP) ## peers behind real NATs in network namespaces (root; iproute2, iptables, coturn)
	PGPEER_TEST_NAT=full $(BIN)/python -m pytest -q --timeout 0 tests/nat

test-hub-load: $(STAMP) ## a hub with 1,000 peers in 500 pairs
	PGPEER_TEST_HUB_PEERS=1000 $(BIN)/python -m pytest -q -s --timeout 0 tests/hub/test_hub_load.py

fuzz: $(STAMP)   ## search every decoder for ten minutes each (PGPEER_FUZZ_SECONDS)
	PGPEER_FUZZ_SECONDS=$${PGPEER_FUZZ_SECONDS:-600} $(BIN)/python -m pytest -q --timeout 0 tests/fuzz/test_decoders.py

demo: $(STAMP)   ## two databases, a hub, two workers and real data: the main job, shown
	$(BIN)/pgpeer demo

bench: $(STAMP)  ## measure, side by side with built-in logical replication
	$(BIN)/python -m bench

docs: $(STAMP)   ## check that the reference pages agree with the code
	$(BIN)/python -m pytest -q tests/house/test_docs.py

clean:           ## remove what the verbs made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
