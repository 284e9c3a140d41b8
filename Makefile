# `make demo` shows it, `make test` checks it; `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
# Whatever Python is new enough; `make PYTHON=/usr/bin/python3.12 …` chooses.
PYTHON := $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
# What was installed is remembered by what it was installed from.
HASH := $(shell cat setup.cfg setup.py pyproject.toml twisted/plugins/*.py | sha256sum | cut -c1-12)
NODE_HASH := $(shell sha256sum tests/live/node/package.json | cut -c1-12)
PORT ?= 8443
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

# Only tests.compiled compiles; what is installed here is editable.
unexport APPPROXY_COMPILE APPPROXY_COMPILED

.PHONY: help demo demo-kerberos test lint packages compiled bench features docs clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo [PORT=9443]  relay, connector, intranet and identity provider on this machine, to try out'
	@echo 'make demo-kerberos     the same with a Kerberos realm and an intranet that wants its tickets'
	@echo 'make test              install what the tests need, then lint and run all tests'
	@echo 'make lint              ruff, mypy and the order of the layers'
	@echo 'make compiled          the package compiled as on a busy server, into build/compiled'
	@echo 'make bench             measure what a request costs'
	@echo 'make features          which rows of docs/features.rst the last make test has shown'
	@echo 'make docs              the documentation, into build/docs'
	@echo 'make clean             remove what was built and installed here; .demo stays'

demo: $(VENV)/.demo-$(HASH)
	@exec $(BIN)/python -m appproxy.demo --port $(PORT)

demo-kerberos: $(VENV)/.kerberos-$(HASH)
	@exec $(BIN)/python -m appproxy.demo --kerberos --port $(PORT)

# First the rooms that have compiled modules, in these; then everything, with live tests starting the compiled programs.
test: lint packages $(VENV)/.node-$(NODE_HASH) $(VENV)/.kerberos-tried-$(HASH)
	@$(BIN)/python -m tests.compiled --test; case $$? in \
	0) export APPPROXY_COMPILED=build/compiled;; \
	77) echo 'so everything is tested interpreted';; \
	*) exit 1;; esac; \
	$(BIN)/pytest --features-file=.test-results/features.json

lint: $(VENV)/.test-$(HASH)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

packages: | $(BIN)/python
	@.ci/packages $(BIN)/python

compiled: $(VENV)/.test-$(HASH)
	@$(BIN)/python -m tests.compiled

# What starts programs starts them compiled.
bench: $(VENV)/.test-$(HASH)
	@for each in tests/bench/bench_*.py; do \
	echo "== $$each"; $(BIN)/python -m "$$(echo $${each%.py} | tr / .)" || exit 1; done

features: $(VENV)/.test-$(HASH)
	@$(BIN)/python -m tests.features

docs: $(VENV)/.docs-$(HASH)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo 'build/docs/index.html'

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis .test-results
	rm -rf tests/live/node/node_modules

# The environment

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'this Python has no venv; on Debian: apt-get install python3-venv'; exit 1; }

# dropin.cache is Twisted's list of plug-ins; written here so that no program has to.
$(VENV)/.demo-$(HASH): | $(BIN)/python
	@echo 'installing appproxy into $(VENV)'
	@$(PIP) install -e .
	@$(BIN)/twistd --help >/dev/null
	@touch $@

$(VENV)/.test-$(HASH): | $(VENV)/.demo-$(HASH)
	@echo 'installing what the tests need into $(VENV)'
	@$(PIP) install -e '.[test,dev]'
	@touch $@

# Compiles against the system's Kerberos.
$(VENV)/.kerberos-$(HASH): | $(VENV)/.demo-$(HASH)
	@command -v krb5-config >/dev/null && command -v gcc >/dev/null || \
	{ echo 'Kerberos needs a compiler and its headers: apt-get install gcc libkrb5-dev'; exit 1; }
	@echo 'building the extra kerberos, once: about two minutes'
	@$(PIP) install -e '.[kerberos]'
	@touch $@

# Without it the tests of Kerberos say so and are skipped.
$(VENV)/.kerberos-tried-$(HASH): | $(VENV)/.test-$(HASH) packages
	@$(MAKE) --no-print-directory $(VENV)/.kerberos-$(HASH) || echo 'so tests of Kerberos are skipped'
	@touch $@

$(VENV)/.docs-$(HASH): | $(VENV)/.demo-$(HASH)
	@$(PIP) install -e '.[docs]'
	@touch $@

# Without npm the tests that need a real provider, or Socket.IO, say so and are skipped.
$(VENV)/.node-$(NODE_HASH): tests/live/node/package.json | $(VENV)/.test-$(HASH) packages
	@if command -v npm >/dev/null; then \
	cd tests/live/node && npm install --no-audit --no-fund --no-package-lock --loglevel=error >/dev/null; \
	else echo 'npm is missing: tests with a real identity provider and with Socket.IO are skipped'; fi
	@touch $@
