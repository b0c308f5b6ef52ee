# Everything runs in a virtual environment that is made here; a machine with python3 and make is enough.
PYTHON ?= python3
VENV ?= .venv
SQLALCHEMY ?= sqlalchemy>=2.1,<2.2
PYTEST_ARGS ?=
BENCH_ARGS ?=
SOAK_SECONDS ?= 600
SOAK_ARGS ?=

PINS := -c constraints.txt '$(SQLALCHEMY)'
BIN = $(VENV)/bin
WANTED_DEMO := -e '.[litestar]' --group example
WANTED_TEST := -e '.[cli,fsspec,litestar,magic,pydantic,s3]' --group test
WANTED_DEV := -e '.[cli,fsspec,litestar,magic,pydantic,s3]' --group dev
# What other Pythons have no say in is left out: stores, the browser's page, and the tests of testing.
LEG := PYTEST_ARGS="-q -x -m 'not slow' --ignore tests/backends --ignore tests/testing --ignore-glob '*_page*.py'"
# Only what asks something of SQLAlchemy.
OF_SQLALCHEMY := tests/orm $(addprefix tests/test_,alembic.py backups.py cli.py litestar.py litestar_direct.py sweeper.py) \
	tests/examples/test_guide.py tests/examples/test_documents.py README.md docs
LEG_OF_SQLALCHEMY := PYTEST_ARGS="-q -x -m 'not slow' $(OF_SQLALCHEMY)"

# uv installs in seconds what takes pip minutes; where it cannot be had, pip does it.
install = @if $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt uv; \
	then $(BIN)/uv pip install -q -p $(BIN)/python $(PINS) $(1); \
	else $(BIN)/python -m pip install -q -U pip && $(BIN)/python -m pip install -q $(PINS) $(1); fi && touch $@

# An interpreter of that version: pyenv's shim is in PATH also where pyenv has not selected the version.
interpreter = $(firstword $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python$(1)) \
	$(shell python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null))

.DEFAULT_GOAL := help
.PHONY: help demo demo-check test test-all test-sqlalchemy-2.0 check format-check lint types imports docs format \
	services bench soak crash-table clean

help: ## what there is to make
	@sed -n 's/^\([a-z][-a-z]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

demo: $(VENV)/.demo ## start the example application and print its address
	$(BIN)/python examples/documents/serve.py

demo-check: $(VENV)/.demo ## start the example, drive it over HTTP with real files, stop it
	$(BIN)/python examples/documents/check.py

test: $(VENV)/.test ## run the tests; PYTEST_ARGS="-k name" for some of them
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-all: test test-sqlalchemy-2.0 test-3.12 test-3.13 ## the tests, also on SQLAlchemy 2.0 and on newer Pythons

test-sqlalchemy-2.0:
	@$(MAKE) --no-print-directory test VENV=.venv-sqlalchemy-2.0 SQLALCHEMY='sqlalchemy>=2.0,<2.1' $(LEG_OF_SQLALCHEMY)

test-3.%:
	@if [ -n "$(call interpreter,3.$*)" ]; \
	then $(MAKE) --no-print-directory test VENV=.venv-3.$* PYTHON="$(call interpreter,3.$*)" $(LEG); \
	else echo "python3.$* is not installed: its tests are left out"; fi

check: format-check lint types imports docs ## everything that can be checked without running the tests

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check

lint: $(VENV)/.dev
	$(BIN)/ruff check

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev ## build the documentation into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -n -b html docs docs/_build

format: $(VENV)/.dev ## rewrite the sources as ruff would have them
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

services: ## install the servers that the tests use, as root on Debian
	@tests/services/install

.venv-bench/.bench: VENV = .venv-bench
bench: .venv-bench/.bench ## measure; libmagic is not in that environment
	.venv-bench/bin/python -m benchmarks $(BENCH_ARGS)

soak: $(VENV)/.test ## processes that work and are killed, behind faults; SOAK_SECONDS=600, SOAK_ARGS="--seed 1"
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) $(SOAK_ARGS)

crash-table: $(VENV)/.test ## run the crash tests and write what they tried into docs/howto/crash-safety.md
	rm -f $(VENV)/crash-table
	LADING_CRASH_TABLE=$(abspath $(VENV))/crash-table $(BIN)/python -m pytest -q -n 2 tests/crash/test_crash_safe.py
	$(BIN)/python -m tests.crash.table $(VENV)/crash-table docs/howto/crash-safety.md

clean: ## remove what was made here
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis docs/_build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/bin/python:
	$(PYTHON) -m venv $*

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(WANTED_DEMO))

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(WANTED_TEST))

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(WANTED_DEV))

.venv-bench/.bench: pyproject.toml constraints.txt | .venv-bench/bin/python
	$(call install,-e . --group bench)
