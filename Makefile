# Everything a fresh machine needs is Python 3.11, pip, make and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A process on every core, each computing with one thread; what a file prepares is prepared once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadscope

.PHONY: demo test prove notebooks docs reference install format clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml plugins/diffkit-energy/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' --editable plugins/diffkit-energy
	touch $@

demo: install  ## train, sample and measure on the embedded digits; ends with the path of a report
	$(BIN)/diffkit run examples/configs/digits.yaml

test: install  ## lint, format, types, and the tests of every landing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not prove"

prove: install  ## the tests with the full count of every claim
	$(PYTEST)

notebooks: install  ## run all notebooks whole, in place
	$(BIN)/python examples/notebooks/run.py

docs: install  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html"

reference: install  ## docs/reference, written from the code again
	$(BIN)/python docs/_site/reference.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
