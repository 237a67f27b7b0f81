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

.PHONY: install demo test test-slow learn lint clean
install: $(VENV)/.installed

demo: install
	$(BIN)/rnncond demo --out demo

# Two at a time: most tests with Ray wait for its processes. In the order of the folders, which has the longest first;
# by itself xdist would begin with files of many tests, and end with one processor.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: install
	$(BIN)/python -m pytest -m slow

# Trains every system until it has learnt its task, and prints the table.
learn: install
	$(BIN)/python -m pytest -m slow tests/learn

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) demo build *.egg-info
