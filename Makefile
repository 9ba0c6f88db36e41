VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test quality style clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,quality]'
	touch $@

demo: $(INSTALLED)  ## train a tiny UniChart on drawn charts (10 minutes on 2 cores), show its score and a picture
	$(PYTHON) examples/demo.py

test: $(INSTALLED)  ## run the whole test suite
	$(PYTHON) -m pytest -n 2 --dist worksteal tests

quality: $(INSTALLED)  ## check lint and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

style: $(INSTALLED)  ## mend lint and format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove what demo and test left behind
	rm -rf demo_output out .pytest_cache .ruff_cache
