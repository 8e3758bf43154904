# make demo: the main job on an embedded default.  make test: lint, types, import contracts and the tests.
# Both set up what they need: a virtual environment in .venv and, for the tests, Debian's peer programs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PEERS := rtklib gpsd gpsd-clients curl mosquitto postgresql chromium
export PYTHONASYNCIODEBUG =

.PHONY: demo test test-slow check format lint types imports tests bench clean

demo: $(VENV)/ready-demo
	$(BIN)/dipper demo

test: $(VENV)/ready-test $(VENV)/peers lint types imports tests

test-slow: $(VENV)/ready-test $(VENV)/peers
	$(BIN)/python -m pytest -m slow --timeout 3600

check: lint types imports

format: $(VENV)/ready-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready-test
	$(BIN)/mypy

imports: $(VENV)/ready-test
	$(BIN)/lint-imports

tests: $(VENV)/ready-test
	$(BIN)/python -m pytest

bench: $(VENV)/ready-test
	$(BIN)/python -m bench $(NAMES)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/ready-demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	$(BIN)/python -m pip install --quiet --no-deps gnss-benchmark==2.3.0
	touch $@

$(VENV)/ready-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable . --group lint --group test
	$(BIN)/python -m pip install --quiet --no-deps gnss-benchmark==2.3.0 cssrlib==1.2.1
	touch $@

# The real programs that the tests speak to: RTKLIB, gpsd, curl, Mosquitto, PostgreSQL (out of PATH).
$(VENV)/peers: | $(VENV)/bin/python
	{ command -v rnx2rtkp str2str convbin gpsd gpspipe curl mosquitto chromium && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $(PEERS); }
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
