# What a person types. Everything but set-up itself is one command of .venv/bin/ward or of a tool in .venv.
# ARGS passes on: make up ARGS="--duration 60s --rate 1000"

# The first Python on PATH that the locked packages are made for; the plain python3 last, so that set-up can say what
# is wrong with it. A stand-in of a version manager may exist without running, hence the call.
PYTHON ?= $(shell for name in python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$name && exit; \
	done; echo python3)
BIN := .venv/bin
# Test processes: each has a Spark session and a broker of its own, some 2 GB.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup up test check bench airflow dashboard notebooks clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install everything into .venv and .jars; nothing to do, no network, when that is done
	@$(PYTHON) wardhouse/bootstrap.py

up: setup  ## run the live pipeline with simulated patients until Ctrl-C
	@$(BIN)/ward up $(ARGS)

test: setup  ## every test
	@# By file: the tests of one share a session or a broker. The long ones stand first in the order of the files.
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup  ## style, types, layers, lock file, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# The lock is made for any index: checking it must not need the one it was made with.
	$(BIN)/uv lock --check --offline
	$(BIN)/ward docs --check

bench: setup  ## measure latency, throughput and memory; figures go to bench/results
	$(BIN)/python -m bench $(ARGS)

airflow: setup  ## Airflow on this machine: stream checkpoints, quality, cohorts, backfills
	@$(BIN)/ward airflow $(ARGS)

dashboard: setup  ## trend reports in the browser
	@$(BIN)/ward dashboard $(ARGS)

notebooks: setup  ## researchers' notebooks in the browser; installs JupyterLab first
	@$(BIN)/uv sync --frozen --quiet --group notebook --python $(BIN)/python
	@$(BIN)/jupyter lab notebooks $(ARGS)

clean:  ## remove what set-up installed and what tools left; the data dir .ward stays
	rm -rf .venv .jars build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
