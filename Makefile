PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One stamp per set of pins: a change of the pins or of the packages' metadata installs again.
$(VENV)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

.PHONY: install demo test test-fast test-slow learn lint docs gpu-check clean
install: $(VENV)/.installed

demo: install
	$(BIN)/rnncond demo --out demo

# Two processes, because tests with Ray mostly wait for Ray's own processes. A file stays in one process, and files go in
# the order of the folders, which puts the longest first; xdist's own order starts with the files of most tests and ends
# with one busy processor.
PYTEST := $(BIN)/python -m pytest
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST) $(TWO_AT_ONCE)

# What needs neither Ray nor seconds for a test: for every save of a file.
test-fast: install
	$(PYTEST) $(TWO_AT_ONCE) -m 'not ray and not slow and not heavy' tests/unit tests/contract tests/test_imports.py

test-slow: install
	$(PYTEST) -m slow

# Trains every system until it has learnt its task, and prints the table.
learn: install
	$(PYTEST) -m slow tests/learn

# On a machine with a GPU: laws, speeds and peak memory, into the folder that OUT names; needs no installation but torch's.
gpu-check:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu_check.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of docs/, in build/site. A link that leads nowhere is an error.
docs: install
	$(BIN)/python -m pipelines.cli.reference docs/verbs
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache
