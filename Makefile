# The commands of genus. `make` alone lists them.
#
# Needs Python 3.11 or newer, git and make. PYTHON=... picks another interpreter, WORKERS=... the number of
# test processes, PYTEST=... more arguments of pytest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .bench/venv
WORKERS ?= 2
# families that fit the digits in a minute or less; genus compare digits takes all
DEMO ?= VAE RBM GAN PixelCNN MADE SplineFlow RealNVP BayesianGaussianMixture GaussianMixture BayesNet CategoricalMixture ProbabilisticPCA FactorAnalysis
PYTEST ?=
# the first Python that is new enough; python3.11 is the one that constraints.txt was made for
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
endif
# one thread a process: two test processes on two cores, and the same numbers everywhere
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# a test that follows another shares what it fitted: workers take runs of tests, and steal from each other's ends
PROCESSES := -n $(WORKERS) --dist worksteal

.PHONY: help setup demo test test-all check bench clean

help:  ## list the commands
	@echo 'genus: every family of generative model behind one interface'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
		|| grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with everything that the other commands need

$(READY): pyproject.toml constraints.txt
	@if [ -z '$(PYTHON)' ]; then \
		echo 'genus needs Python 3.11 or newer with its venv module, and found none.' >&2; \
		echo 'Install it (on Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); this downloads PyTorch the first time."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## compare fifteen models on the digits and write report.html
	$(BIN)/genus compare digits --models $(DEMO) --report report.html
	@echo "The report is in $(CURDIR)/report.html: open it in a browser."

test: $(READY)  ## run the tests but those of the full matrix, offline
	$(ONE_THREAD) $(BIN)/python -m pytest $(PROCESSES) -m 'not full' $(PYTEST)

test-all: $(READY)  ## run all tests: every law, every variant of a model, every kind of data
	$(ONE_THREAD) $(BIN)/python -m pytest $(PROCESSES) $(PYTEST)

check: $(READY)  ## ruff, mypy and the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test

$(BENCH)/.ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	@if [ -z '$(PYTHON)' ]; then echo 'genus needs Python 3.11 or newer: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@[ -x $(BENCH)/bin/python ] || { mkdir -p .bench; $(PYTHON) -m venv $(BENCH); }
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/requirements.txt
	@touch $@

bench: $(BENCH)/.ready  ## genus beside its peers; writes benchmarks/RESULTS.md (GENUS_DATA=folder with mnist.npz)
	$(BENCH)/bin/python benchmarks/run.py

clean:  ## remove the environments, caches and the report
	rm -rf $(VENV) .bench build dist report.html .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
