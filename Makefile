# One place for every command; `make help` lists them. Each target makes what it needs, once.

# The first Python that is new enough; `make PYTHON=…` decides otherwise.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
endif
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --quiet
INSTALLED := $(addprefix $(VENV)/.,test lint wheel)
SOURCES := setup.py $(shell find uprobe_core -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help build demo test lint bench fuzz chaos rounds wheel clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: build/.done $(VENV)/.run ## watch live probes in a program that is already running
	@$(PY) demo/run.py

test: build/.done $(VENV)/.test ## run every test; ARGS="-k spec" for some
	@$(PY) -m pytest $(ARGS)

lint: build/.done $(VENV)/.lint ## style and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(PY) uprobe_core/x86/gen_tables.py --check

bench: build/.done $(VENV)/.test ## measure against the bare cost of a stop; writes build/benchmarks.md
	@$(PY) -m benchmarks.run $(ARGS)

fuzz: build/.done $(VENV)/.test ## let the processor judge the decoder for a minute; ARGS="--seconds 600 --seed 7"
	@$(PY) -m tests.fuzz --seconds 60 $(ARGS)

chaos: build/.done $(VENV)/.test ## random operations on real programs for five minutes; ARGS="--seconds 3600 --seed 7"
	@PYTHONPATH=python:. $(PY) -m tests.chaos --seconds 300 $(ARGS)

rounds: build/.done $(VENV)/.test ## attach and leave ten thousand times: nothing may leak
	@UPROBES_ROUNDS=10000 $(PY) -m pytest -q --timeout 0 tests/integration/live/test_rounds.py

build: build/.done ## compile the core in place

wheel: $(VENV)/.wheel ## make dist/*.whl, for every CPython from 3.11 on, and check it
	@rm -rf build/wheel dist
	@mkdir -p build
	@echo 'building the wheel ...'
	@$(PY) -m build --outdir build/wheel >build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
	@PATH="$(VENV)/bin:$$PATH" $(PY) -m auditwheel repair --strip --wheel-dir dist build/wheel/*.whl \
		>>build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
	cp build/wheel/*.tar.gz dist
	$(PY) -m abi3audit --strict --verbose dist/*.whl
	sh .ci/check-wheel dist/*.whl

clean: ## remove all that was built, but the virtual environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks python/uprobes.egg-info uprobes.egg-info
	find uprobe_core -name '*.so' -delete -o -name '*.c' -delete
	find uprobe_core python tests benchmarks demo -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment, and what is installed in it for each purpose.

$(PY):
	@test -n "$(PYTHON)" || { echo 'make: no Python 3.11 or later found; hint: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo 'make: $(PYTHON) cannot make a virtual environment;' \
		'hint: on Debian, apt-get install python3-venv' >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.build: pyproject.toml | $(PY)
	@$(PY) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
		{ echo 'make: Python.h is missing; hint: on Debian, apt-get install python3-dev' >&2; exit 1; }
	$(PIP) $$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@touch $@

build/.done: $(SOURCES) $(VENV)/.build
	@mkdir -p build
	@echo 'compiling the core ...'
	@$(PY) setup.py --quiet build_ext --inplace >build/log 2>&1 || { cat build/log >&2; exit 1; }
	@grep -A 3 -E 'warning|performance hint' build/log >&2 || true
	@touch $@

$(VENV)/.run: pyproject.toml setup.py | build/.done
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(INSTALLED): $(VENV)/.%: pyproject.toml setup.py | build/.done
	$(PIP) --no-build-isolation --editable '.[$*]'
	@touch $@
