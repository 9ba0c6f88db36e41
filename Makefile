VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
OLDEST := .venv-oldest
INSTALLED_OLDEST := $(OLDEST)/.installed
NEWEST := .venv-newest
INSTALLED_NEWEST := $(NEWEST)/.installed

TORCHVISION := .venv-torchvision
INSTALLED_TORCHVISION := $(TORCHVISION)/.installed
DEEPSPEED := .venv-deepspeed
INSTALLED_DEEPSPEED := $(DEEPSPEED)/.installed
OPERATORS := $(CURDIR)/$(DEEPSPEED)/operators

CONSTRAINTS := tests/constraints
INSTALL := -m pip install --quiet --disable-pip-version-check
PYTEST := -m pytest -n 2 --dist worksteal

EXAMPLES := 2000
GPU_PYTHON := python3
KILLS := 40
BENCHMARKS := training_step evaluation llava_evaluation sft charts records predictions startup evaluated_rows preflight

.DEFAULT_GOAL := help
.PHONY: help demo demo-tasks test test-long test-newest test-oldest test-deepspeed test-kills coverage fuzz families families-torchvision families-oldest families-newest docs notebook bench bench-gpu quality style clean

help:  ## list the targets
	@grep -E '^[a-z-]+( [a-z-]+)?:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): setup.cfg pyproject.toml $(CONSTRAINTS)/current.txt
	python3 -m venv $(VENV)
	$(PYTHON) $(INSTALL) -c $(CONSTRAINTS)/current.txt -e '.[test,quality,app,trackers,rl]'
	touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(PYTHON) $(INSTALL) -c $(CONSTRAINTS)/current.txt -e '.[test,bench]'
	touch $@

# From nothing each time, so that no package of an earlier installation stays behind.
$(INSTALLED_OLDEST) $(INSTALLED_NEWEST): .venv-%/.installed: setup.cfg pyproject.toml $(CONSTRAINTS)/%.txt
	rm -rf .venv-$*
	python3 -m venv .venv-$*
	.venv-$*/bin/python $(INSTALL) -c $(CONSTRAINTS)/$*.txt -e '.[test]'
	touch $@

# torchvision, and timm for the vision tower of Gemma 3n, alone, so that pip keeps the torch for CPUs; see tests/support/torchvision_operators.py.
$(INSTALLED_TORCHVISION): setup.cfg pyproject.toml $(CONSTRAINTS)/current.txt
	rm -rf $(TORCHVISION)
	python3 -m venv $(TORCHVISION)
	$(TORCHVISION)/bin/python $(INSTALL) -c $(CONSTRAINTS)/current.txt -e '.[test]'
	$(TORCHVISION)/bin/python $(INSTALL) --no-deps torchvision==0.28.0 timm==1.0.31
	touch $@

# The operator with which processes on a CPU talk to each other is built here, once, and not by every process.
$(INSTALLED_DEEPSPEED): setup.cfg pyproject.toml $(CONSTRAINTS)/current.txt
	rm -rf $(DEEPSPEED)
	python3 -m venv $(DEEPSPEED)
	$(DEEPSPEED)/bin/python $(INSTALL) -c $(CONSTRAINTS)/current.txt -e '.[test]' setuptools wheel ninja
	$(DEEPSPEED)/bin/python $(INSTALL) -c $(CONSTRAINTS)/current.txt --no-build-isolation deepspeed==0.19.8
	PATH="$(CURDIR)/$(DEEPSPEED)/bin:$$PATH" DS_ACCELERATOR=cpu TORCH_EXTENSIONS_DIR=$(OPERATORS) $(DEEPSPEED)/bin/python \
		-c "from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder; ShareMemCommBuilder().load()"
	touch $@

demo: $(INSTALLED)  ## train a tiny UniChart on drawn charts (4 minutes on 2 cores), show its score and a picture
	$(PYTHON) examples/demo.py

demo-tasks: $(INSTALLED)  ## train one tiny UniChart on questions, tables and summaries of drawn charts, show its scores
	$(PYTHON) examples/demo_tasks.py

test: $(INSTALLED)  ## run the tests and the examples in docstrings (12 minutes on 2 cores)
	$(PYTHON) $(PYTEST) -m "not long"

test-long: $(INSTALLED)  ## run what takes longer: whole trainings by scripts, pages and several processes
	$(PYTHON) $(PYTEST) -m long

test-newest: $(INSTALLED_NEWEST)  ## run all of them, with all families, on the newest packages that setup.cfg admits (rm -r .venv-newest to get newer ones)
	CHARTQA_FAMILIES=all $(NEWEST)/bin/python $(PYTEST)

test-oldest: $(INSTALLED_OLDEST)  ## run all of them, with all families, on the oldest packages that setup.cfg admits
	CHARTQA_FAMILIES=all $(OLDEST)/bin/python $(PYTEST)

test-deepspeed: $(INSTALLED_DEEPSPEED)  ## train with DeepSpeed ZeRO stages 2 and 3 on two processes on CPUs (10 minutes; needs a C++ compiler)
	DS_ACCELERATOR=cpu TORCH_EXTENSIONS_DIR=$(OPERATORS) $(DEEPSPEED)/bin/python -m pytest -n 0 tests/deepspeed

test-kills: $(INSTALLED)  ## kill 40 short trainings (-9) at random moments, resume and compare them (KILLS=10 for fewer)
	$(PYTHON) -m tests.drivers.kill_runs --kills $(KILLS)

coverage: $(INSTALLED)  ## run all of them and print how much of each module they reach, child processes included
	$(PYTHON) $(PYTEST) --cov --cov-report=term

fuzz: $(INSTALLED)  ## look longer for files that crash a reader (EXAMPLES=2000 of each kind)
	CHARTQA_FUZZ_EXAMPLES=$(EXAMPLES) $(PYTHON) $(PYTEST) tests/security -k fuzz

families: $(INSTALLED)  ## test all families (6 minutes on 2 cores), also on all tasks, and write their tables into their pages
	CHARTQA_FAMILIES=all $(PYTHON) $(PYTEST) tests/families tests/training/model_check/test_broken.py --junitxml=out/families.xml
	$(PYTHON) -m tests.support.family_table out/families.xml examples/own_family.md
	$(PYTHON) -m tests.support.model_table out/families.xml chartqa_ft/adapters/FAMILIES.md
	$(PYTHON) -m tests.support.task_table examples/tasks.md

families-torchvision: $(INSTALLED) $(INSTALLED_TORCHVISION)  ## test the families whose processors need torchvision, in an environment that has it
	CHARTQA_FAMILIES=torchvision $(TORCHVISION)/bin/python $(PYTEST) $(addprefix tests/families/test_families,.py _checked.py _lora.py _saved.py) \
		-k "not resumes" --junitxml=out/families-torchvision.xml
	$(PYTHON) -m tests.support.family_table out/families-torchvision.xml examples/own_family.md torchvision

families-oldest families-newest: families-%: $(INSTALLED) .venv-%/.installed  ## test all families on those packages, and write their column into the table
	CHARTQA_FAMILIES=all .venv-$*/bin/python $(PYTEST) $(addprefix tests/families/test_families,.py _checked.py _lora.py _saved.py) \
		--junitxml=out/families-$*.xml
	$(PYTHON) -m tests.support.family_table out/families-$*.xml examples/own_family.md $*

docs: $(INSTALLED)  ## build the reference of all public names from the docstrings into out/docs
	$(PYTHON) -m tests.support.reference out/docs

notebook: $(INSTALLED)  ## run examples/chartqa_ft.ipynb and write its results into it (5 minutes)
	$(PYTHON) -m tests.support.notebook examples/chartqa_ft.ipynb

bench: $(INSTALLED_BENCH)  ## measure time and memory beside the peers and print the table (BENCHMARKS="charts ..." for some, RUNS=2 for fewer runs)
	$(foreach benchmark,$(BENCHMARKS),$(PYTHON) -m tests.benchmarks.$(benchmark) $(if $(RUNS),--runs $(RUNS)) &&) $(PYTHON) -m tests.benchmarks.table

bench-gpu:  ## check and measure everything on a GPU in at most 8 minutes, with the packages of `python3` (GPU_PYTHON=... for another)
	$(GPU_PYTHON) -m tests.benchmarks.gpu

quality: $(INSTALLED)  ## check lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

style: $(INSTALLED)  ## fix lint and format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove what the targets leave behind, except .venv
	rm -rf $(NEWEST) $(OLDEST) $(DEEPSPEED) $(TORCHVISION) demo_output demo_tasks_output out .coverage* .mypy_cache .pytest_cache .ruff_cache
