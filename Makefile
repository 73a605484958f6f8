# make demo | test | lint | types | docs | bench-ethanol | clean | help
# Everything happens in .venv; a second run finds it ready. Another Python: make test PYTHON=python3.13

PYTHON ?= python3
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
ETHANOL_DATA ?= $(wildcard ../shared/assets/data/ethanol)

STAMPS := .venv/stamps
RUN := .venv/bin/python
KERNELS := $(wildcard src/macekit/kernels/csrc/*)
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: demo test lint types docs docs-reference bench-ethanol clean help

help: ## Say what there is
	@echo "make demo           train, test and run a model on the bundled data (a few minutes; results in demo-run/)"
	@echo "make test           the whole test suite; one part of it: make test PYTEST_ARGS='-k stress'"
	@echo "make lint           ruff: faults and format"
	@echo "make types          mypy --strict"
	@echo "make docs           build the documentation into site/"
	@echo "make docs-reference write the generated pages of the documentation anew"
	@echo "make bench-ethanol  train on 200 ethanol frames and test, as in README.md; data in ETHANOL_DATA=folder"
	@echo "make clean          remove .venv, caches and what was built"
	@echo "Python is chosen by PYTHON (now: $(PYTHON); 3.11 or newer)"

demo: $(STAMPS)/package
	$(RUN) -m macekit demo

test: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

lint: $(STAMPS)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(STAMPS)/dev
	$(RUN) -m mypy --strict

docs: $(STAMPS)/docs
	$(RUN) docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

docs-reference: $(STAMPS)/package
	$(RUN) docs/generate.py

bench-ethanol: $(STAMPS)/package
	@test -d "$(ETHANOL_DATA)" || { echo "no folder '$(ETHANOL_DATA)'; say where train.xyz and test_MD.xyz are:" \
	  "make bench-ethanol ETHANOL_DATA=folder (benchmarks/accuracy/README.md says where to get them)" >&2; exit 1; }
	$(RUN) benchmarks/accuracy/macekit_run.py ethanol "$(ETHANOL_DATA)"

clean: ## demo-run/ and runs/ stay
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that was copied or moved belongs to another folder: it is made anew.
ifneq ($(shell cat $(STAMPS)/folder 2>/dev/null),$(CURDIR))
.PHONY: $(STAMPS)/venv
endif

$(STAMPS)/venv:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "no '$(PYTHON)' here; macekit needs Python 3.11 or newer:" \
	  "make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "macekit needs Python 3.11 or newer," \
	  "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); choose another: make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	@mkdir -p $(STAMPS)
	@printf '%s\n' "$$PWD" > $(STAMPS)/folder
	@touch $@

# What building needs is installed into .venv and not into a folder of pip's that is another one every time, so that
# installing again, as after a change of the kernels, compiles only what has changed. The second step brings CMake and
# Ninja where they are missing, which pip would have asked for itself.
$(STAMPS)/package: $(STAMPS)/venv pyproject.toml constraints.txt $(KERNELS)
	@echo "installing torch and macekit into .venv; compiling takes some minutes the first time ..."
	$(INSTALL) torch
	$(RUN) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(INSTALL) --requirement /dev/stdin
	$(RUN) -c 'from scikit_build_core.build import get_requires_for_build_editable as asks; print(*asks(), sep="\n")' \
	  | $(INSTALL) --requirement /dev/stdin
	$(INSTALL) --no-build-isolation --editable .
	@touch $@

# macekit is there already and is not built again: only what an extra adds is installed.
$(STAMPS)/test $(STAMPS)/dev $(STAMPS)/docs: $(STAMPS)/%: $(STAMPS)/package
	$(INSTALL) 'macekit[$*]'
	@touch $@
