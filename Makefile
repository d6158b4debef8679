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

# The unit tests of what guards patients' data; `make coverage GUARD_TESTS=tests/unit` is for everything, and takes long.
GUARD_TESTS := $(addprefix tests/unit/,lakehouse/test_privacy.py lakehouse/test_export.py gateway/test_access.py \
	gateway/test_oidc.py gateway/test_guard.py wardhouse/test_access.py wardhouse/test_snapshot.py dashboard/test_app.py)

.DEFAULT_GOAL := help
.PHONY: help setup up test test-cluster check audit sbom coverage bench bench-quick chaos soak airflow dashboard notebooks clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install everything into .venv and .jars; nothing to do, no network, when that is done
	@$(PYTHON) wardhouse/bootstrap.py

up: setup  ## run the live pipeline with simulated patients, gateway and dashboard until Ctrl-C
	@$(BIN)/ward up --gateway --dashboard $(ARGS)

test: setup  ## every test
	@# By file: the tests of one share a session or a broker. The long ones stand first in the order of the files.
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: setup  ## a Spark cluster, brokers, an S3 store and a schema registry that are killed; databases of sinks
	$(BIN)/pytest -m cluster $(ARGS)

check: setup  ## style, types, layers, lock file, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# The lock is made for any index: checking it must not need the one it was made with.
	$(BIN)/uv lock --check --offline
	$(BIN)/ward docs --check
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

audit: setup  ## known weaknesses of the locked packages; asks osv.dev, and fails where that cannot be reached
	$(BIN)/uv audit --frozen --preview-features audit-command $(ARGS)

sbom: setup  ## bill of materials (CycloneDX) of packages and Java libraries, to dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/python -m wardhouse.supply_chain sbom > dist/sbom.cdx.json

coverage: setup  ## lines and branches that unit tests reach; what guards patients' data must be whole
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q --durations=0 --durations-min=9 $(GUARD_TESTS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	@# Branches are shown; of lines none may be missing.
	@$(BIN)/coverage json --quiet -o .coverage.json
	@$(BIN)/python -c "import json, sys; missing = json.load(open('.coverage.json'))['totals']['missing_lines']; \
	sys.exit(f'{missing} lines that guard patients\' data are not covered' if missing else 0)"

bench: setup  ## measure latency, throughput and memory; figures go to bench/results
	$(BIN)/python -m bench $(ARGS)

bench-quick: setup  ## a few short figures beside those of bench/baseline.json; fails where one got worse
	$(BIN)/python -m bench quick $(ARGS)

chaos: setup  ## break the whole stack on purpose, and hold what it has against what was sent; --kills 100 is the long form
	$(BIN)/python -m bench chaos $(ARGS)

soak: setup  ## the whole stack at a steady rate: what grows; ARGS="--duration 60m" is the long form
	$(BIN)/python -m bench soak $(ARGS)

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
