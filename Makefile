VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
OLDEST := .venv-oldest
INSTALLED_OLDEST := $(OLDEST)/.installed

BENCHMARKS := training_step evaluation sft charts records predictions

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest families bench quality style clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,quality]'
	touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,bench]'
	touch $@

# From nothing each time, so that nothing newer stays behind.
$(INSTALLED_OLDEST): setup.cfg pyproject.toml constraints-oldest.txt
	rm -rf $(OLDEST)
	python3 -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[test]'
	touch $@

demo: $(INSTALLED)  ## train a tiny UniChart on drawn charts (10 minutes on 2 cores), show its score and a picture
	$(PYTHON) examples/demo.py

test: $(INSTALLED)  ## run the whole test suite
	$(PYTHON) -m pytest -n 2 --dist worksteal tests

test-oldest: $(INSTALLED_OLDEST)  ## run it on the oldest packages that setup.cfg admits
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal tests

families: $(INSTALLED)  ## test the fifteen families alone and write their table into the README
	$(PYTHON) -m pytest -n 2 --dist worksteal tests/families --junitxml=out/families.xml
	$(PYTHON) -m tests.support.family_table out/families.xml README.md

bench: $(INSTALLED_BENCH)  ## measure time and memory beside the peers and print the table (BENCHMARKS="charts ..." for some)
	$(foreach benchmark,$(BENCHMARKS),$(PYTHON) -m tests.benchmarks.$(benchmark) &&) $(PYTHON) -m tests.benchmarks.table

quality: $(INSTALLED)  ## check lint and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

style: $(INSTALLED)  ## mend lint and format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove what demo and the tests left behind, the oldest packages too
	rm -rf $(OLDEST) demo_output out .pytest_cache .ruff_cache
