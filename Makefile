# One command here is exactly what CI runs. A machine needs Python 3.11 or newer, make and git; everything else is
# installed into .venv from the committed locks, by pip alone, so that PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CACHE_DIR and
# the rest of pip's configuration hold here as they do anywhere.

VENV := .venv
PY := $(VENV)/bin/python
MANIFESTS := pyproject.toml $(sort $(wildcard packages/*/pyproject.toml))
EDITABLES := $(foreach manifest,$(MANIFESTS),-e $(dir $(manifest:%=./%)))
# What the meta-package brings without an extra, which is all that the demo needs.
DEMO_EDITABLES := -e ./ $(foreach name,core ops-text runner-local,-e ./packages/fdf-$(name)/)

# The Python that makes the virtual environment; empty means: look for one. `make test PYTHON=/path/to/python3.12`
PYTHON ?=
# More arguments for pytest: `make test PYTEST_ARGS="-k resume -x"`
PYTEST_ARGS ?=
# How often `make soak` strikes in each of its tests, and the seed that it tells: give it again to repeat a failure.
SOAK_KILLS ?= 50
SOAK_SEED ?= $(shell date +%s)
# More arguments for `uv lock`: `make lock LOCK_ARGS=--upgrade`, `make lock LOCK_ARGS="--upgrade-package polars"`
LOCK_ARGS ?=
# Where the demo leaves its corpus and its run.
DEMO ?= .fdf/demo

PIP := $(PY) -m pip --disable-pip-version-check --no-input
# The locks name every distribution, so pip resolves nothing: it checks the hashes and installs.
PIP_LOCKED := $(PIP) install -qq --require-hashes --no-deps
# torch is in no lock, because the build that fits is the machine's to say: what pip is configured to find decides
# between equal versions, and a build for the CPU is never replaced, since nothing else is installed with dependencies.
PIP_TORCH := $(PIP) install -qq --no-deps -r constraints.txt
PIP_EDITABLE := $(PIP) install -qq --no-deps --no-build-isolation

export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test soak install check lint types arrows docs format pages lock clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-demo ## Set up, then run the quick start on real text found on this machine
	@$(PY) demo/collect.py $(DEMO)/corpus
	@$(VENV)/bin/fdf run pipelines/text/quickstart.yaml --runner local --run-id quickstart-demo \
		--set vars.input='$(DEMO)/corpus/*.jsonl.gz' --set vars.output='$(DEMO)/output' > /dev/null
	@$(VENV)/bin/fdf runs show quickstart-demo --dropped 5

test: install ## Set up, then run every test
	$(PY) -m pytest $(PYTEST_ARGS)

soak: install ## Kill runs at many random moments, on disk and on a failing S3 (SOAK_KILLS=50, SOAK_SEED=<now>)
	FDF_SOAK=$(SOAK_KILLS) FDF_SOAK_SEED=$(SOAK_SEED) $(PY) -m pytest -m soak --timeout=1800 tests $(PYTEST_ARGS)
	FDF_TINY_SPLITS=10000 $(PY) -m pytest -k very_many_tiny_splits --timeout=1800 packages

install: $(VENV)/.ready-dev ## Set up .venv with every package and extra, editable

check: lint types arrows docs ## Check style, types, import arrows and docs

lint: install ## Check style: ruff's rules and its formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install ## Check types: mypy strict on every package
	$(PY) -m mypy

arrows: install ## Check that packages and layers import only what they may
	$(VENV)/bin/lint-imports

docs: install ## Check that links resolve, examples run, and every option and operator is documented
	$(PY) -m pytest -q tests/test_docs.py

format: install ## Rewrite the code as `make lint` wants it, where that can be done safely
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

pages: install ## Write the operators' pages in docs/ops again, from their classes
	$(VENV)/bin/fdf ops pages --out docs/ops $(OPERATOR_PACKAGES)

OPERATOR_PACKAGES = $(notdir $(patsubst %/,%,$(dir $(shell grep -l '"fdf.operators"' packages/*/pyproject.toml))))

lock: install ## Resolve again and export both locks (keeps the pins of uv.lock where one is left; see LOCK_ARGS)
	$(VENV)/bin/uv lock --python $(PY) $(LOCK_ARGS)
	$(VENV)/bin/uv export -q --frozen $(EXPORT) --no-dev --group build -o requirements.lock
	$(VENV)/bin/uv export -q --frozen $(EXPORT) --all-packages --all-extras --all-groups -o requirements-dev.lock

EXPORT := --no-emit-workspace --no-header --no-annotate --format requirements-txt

clean: ## Remove .venv, what the tools cached, and what the demo made
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

# --- The environment. A stamp is newer than the lock and the metadata it was made from, or it is made again. ---------

$(VENV)/.made:
	@python="$$(sh .ci/find-python '$(PYTHON)')" && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.ready-demo: requirements.lock $(MANIFESTS) | $(VENV)/.made
	@echo "installing what the demo needs, from requirements.lock"
	@$(PIP_LOCKED) -r requirements.lock
	@$(PIP_EDITABLE) $(DEMO_EDITABLES)
	@$(PIP) check -q
	@touch $@

$(VENV)/.ready-dev: requirements-dev.lock constraints.txt $(MANIFESTS) | $(VENV)/.made
	@echo "installing torch, from constraints.txt"
	@$(PIP_TORCH)
	@echo "installing every package and extra, from requirements-dev.lock"
	@$(PIP_LOCKED) -r requirements-dev.lock
	@$(PIP_EDITABLE) $(EDITABLES)
	@$(PIP) check -q
	@touch $@ $(VENV)/.ready-demo
