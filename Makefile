# Everything runs inside $(VENV), which the first target that needs it makes; pip is the only source.
SHELL := bash
PYTHON ?= python3
TORCH ?= auto
VENV ?= .venv
WORKERS ?= 2
DATA ?=
PYTEST_ARGS ?=

run := $(VENV)/bin/python
install := PYTHON='$(PYTHON)' TORCH='$(TORCH)' requirements/install.sh $(VENV)
declared := requirements/install.sh setup.py proteus/version.py $(wildcard requirements/*.txt)

.PHONY: help quickstart test lint style types pytest docs format clean

help: ## Show this list (default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "PYTHON=python3    the interpreter that $(VENV) is made from (3.10 or newer)"
	@echo "TORCH=auto        keep the torch that PYTHON has, else install the tested one; TORCH=tested: always that one"

quickstart: $(VENV)/.installed-quickstart ## Distil a small ViT in about ten minutes; your own images: DATA=dir
	OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} $(run) tools/quickstart.py $(if $(DATA),--data '$(subst ','\'',$(DATA))')

test: $(VENV)/.installed-tests ## Style, types and every test, the slow ones too; PYTEST_ARGS="-k name" for fewer
	@$(MAKE) --no-print-directory style
	@$(MAKE) --no-print-directory -j2 types pytest

lint: style types ## Style, prose and types only

style: $(VENV)/.installed-tests
	$(run) -m ruff check .
	$(run) -m ruff format --check .
	$(run) .ci/check_prose.py

types: $(VENV)/.installed-tests
	$(run) -m mypy proteus

# A file's tests stay together, because they share fixtures; its longest ones are printed.
pytest: $(VENV)/.installed-tests
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(run) -m pytest -n $(WORKERS) --dist loadfile --durations=15 $(PYTEST_ARGS)

docs: $(VENV)/.installed-tests ## Build the documentation site in docs/_build/html; a warning is an error
	$(run) -m sphinx -q -E -W --keep-going -d docs/_build/doctrees -c docs . docs/_build/html
	@echo "docs/_build/html/index.html"

format: $(VENV)/.installed-tests ## Apply the fixes of the linter
	$(run) -m ruff check --fix .
	$(run) -m ruff format .

clean: ## Remove the environment and the caches; results in work_dirs, data and checkpoints stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist docs/_build docs/api *.egg-info
	find . -name __pycache__ -type d -not -path './work_dirs/*' -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so a second call installs nothing.
$(VENV)/.installed-quickstart: $(declared)
	$(install) quickstart
	@touch $@

$(VENV)/.installed-tests: $(declared)
	$(install) quickstart,eval,export,tests,docs
	@touch $@ $(VENV)/.installed-quickstart
