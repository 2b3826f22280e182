.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# without compiled modules every test that starts a process would compile them anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo docs pictures test notebook fuzz gpu gpu-rehearsal check lint types fast format package clean

help:     ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: .venv/installed     ## train, evaluate and predict on embedded scenes, about a minute
	rm -rf runs/demo
	$(BIN)/ccnet demo --run runs/demo

docs: .venv/docs     ## the site, into site/; every warning and every broken link is an error
	$(BIN)/python docs/make_site.py

pictures: .venv/installed     ## the pictures of docs/how-it-works.md, from the model of the demo
	$(BIN)/python docs/pictures.py

test: .venv/dev     ## every test
	$(BIN)/python -m pytest -n 2

notebook: .venv/dev     ## run examples/own_data.ipynb and write its outputs into it
	$(BIN)/python -m tests.notebook

fuzz: .venv/dev     ## 1,500 bad inputs to every command, and a table of what they got
	$(BIN)/python -m tests.fuzz --jobs 2 --output benchmarks/results/fuzz.csv

gpu:     ## what only a GPU can show, in ten minutes, into runs/gpu (CAMVID=folder WEIGHTS=file)
	benchmarks/gpu.sh runs/gpu $(CAMVID) $(WEIGHTS)

gpu-rehearsal: .venv/dev     ## the same script at small sizes, on the CPU
	REHEARSAL=1 PYTHON=$(BIN)/python benchmarks/gpu.sh runs/gpu-rehearsal $(CAMVID) $(WEIGHTS)

check: lint     ## format, lint, types and the fast tests, a minute and a half
	$(MAKE) --no-print-directory --jobs 2 types fast

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/dev
	$(BIN)/basedpyright

fast: .venv/dev
	$(BIN)/python -m pytest -n 2 -m "not slow" -q

format: .venv/dev     ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

package: .venv/dev     ## the source archive and the wheel, into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist

clean:     ## remove the environment, runs and packages
	rm -rf .venv runs dist build site *.egg-info

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) setuptools
	$(PIP) --no-build-isolation --editable .
	touch $@

.venv/docs: .venv/installed
	$(PIP) --no-build-isolation --editable '.[docs]'
	touch $@

.venv/dev: .venv/installed
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@
