# tiltflow: two verbs for a stranger (demo, test), the rest for those who build it.
# Every verb makes the environment it needs; nothing is installed outside .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url pyproject.toml --group build
export PYTHONUNBUFFERED = 1
export OPENBLAS_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-whole test-flow test-gallery test-slow test-robust test-operations lint bench pages docs serve lock clean

help:  ## say what each verb does
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev  ## make the environment with everything for tests and tools

demo: $(VENV)/.core  ## generate a tilt series, run the main job on it, print where each product is
	@$(BIN)/tiltflow demo --output demo-output

test: $(VENV)/.dev  ## check the style, types and floors, then run the tests
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest

test-whole: $(VENV)/.dev  ## run the tests that take whole series through the program, and pages through a browser
	@$(BIN)/python -m pytest -m "whole and not slow and not flow and not robust"

test-flow: $(VENV)/.dev  ## run the Prefect flow against a server of its own
	@$(BIN)/python -m pytest -m "flow and not slow" tests/flow

test-gallery: $(VENV)/.dev  ## run the scripts of the gallery
	@$(BIN)/python -m pytest -m gallery tests/test_gallery.py

test-slow: $(VENV)/.dev  ## run the tests that take minutes, gigabytes, or a Slurm cluster
	@$(BIN)/python -m pytest -m slow

test-robust: $(VENV)/.dev  ## attack the program (kills, power cuts, full disks, broken files) and count what it survives
	@$(BIN)/python -m pytest -m "robust or attack" --timeout 3600

test-operations: $(VENV)/.dev  ## kill flows, workers, Prefect's server and the portal, and count what is survived (MOMENTS=40 for the table of the docs)
	@$(BIN)/python -m pytest -m operations --timeout 7200 --moments $(or $(MOMENTS),2) $(if $(ONLY),-k "$(ONLY)") tests/operations

lint: $(VENV)/.dev  ## ruff, mypy, import floors, spelling
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && echo "ruff: clean"
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 4
	@$(BIN)/codespell src door tests docs benchmarks README.md CHANGELOG.md CONTRIBUTING.md && echo "codespell: clean"

bench: $(VENV)/.dev  ## print the benchmark tables, one seed each (GOLDEN=folder adds IMOD's volumes), and what has become slower
	@for script in benchmarks/*.py; do \
	    case $$script in \
	        */record.py) continue ;; \
	        */alignment.py|*/verdicts.py) options="--seeds 1" ;; \
	        */sensitivity.py) options="--package align.bundle --constant k_factor" ;; \
	        */sensitivity_volume.py) options="--package position --constant THICKNESS_CORRECTION" ;; \
	        */positioning.py) options="--series 6 --own 1" ;; \
	        */load.py) options="--series 20 --window 5" ;; \
	        */scaling.py) options="--rounds 1" ;; \
	        */golden.py) test -n "$(GOLDEN)" || continue; options="$(GOLDEN)/tilt" ;; \
	        *) options= ;; \
	    esac; \
	    echo "== $$script $$options"; $(BIN)/python $$script $$options || exit 1; \
	done

pages: $(VENV)/.dev  ## write the generated pages, figures and pictures of docs/ (to be committed)
	@$(BIN)/tiltflow demo --output demo-output
	@$(BIN)/python docs/generate.py demo-output

docs: $(VENV)/.docs  ## build the documentation site into site/; warnings are errors
	@$(BIN)/python docs/generate.py --check
	@rm -rf .cache/mkdocs-jupyter
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "the site is in site/index.html"

serve: $(VENV)/.docs  ## build the site and serve it on this machine, anew with every change
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

lock: $(VENV)/.dev  ## resolve the dependencies anew (needs uv)
	$(UV_COMPILE) --group dev --extra prefect --extra portal -o requirements-dev.lock
	$(UV_COMPILE) -c requirements-dev.lock -o requirements.lock
	$(UV_COMPILE) --group dev --group docs --extra prefect --extra portal -c requirements-dev.lock -o requirements-docs.lock

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) demo-output site .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "tiltflow needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12 ..."; \
	    exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "'$(PYTHON)' has no venv or pip (modules venv and ensurepip)."; \
	    echo "Install them: Debian, Ubuntu: apt-get install python3-venv; Fedora: dnf install python3-pip; then run make again."; \
	    exit 1; }
	@echo "making the environment in $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.core: requirements.lock pyproject.toml | $(BIN)/python
	@test -f $(VENV)/.dev || $(PIP) install --no-compile --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml door/pyproject.toml | $(BIN)/python
	@$(PIP) install --no-compile --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e . -e door
	@touch $@

$(VENV)/.docs: requirements-docs.lock $(VENV)/.dev
	@$(PIP) install --no-compile --require-hashes -r requirements-docs.lock
	@touch $@
