# Two commands on a fresh machine: `make repro` runs the main job, `make test` the tests.
EXPERIMENTS ?= gan dqn bert
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test check format bench setup

# One experiment after another, so that the first verdicts are there early.
repro: $(BIN)/.installed
ifeq ($(EXPERIMENTS),all)
	dvc repro
else
	$(foreach e,$(EXPERIMENTS),dvc repro evaluate@$(e) &&) dvc repro --single-item report
endif
	@reprise verdicts $(filter-out all,$(EXPERIMENTS))

test: $(BIN)/.installed
	pytest -n 2 --dist loadfile

check: $(BIN)/.installed
	ruff format --check .
	ruff check .
	pyright
	codespell src tests *.md *.yaml
	lint-imports
	reprise validate

format: $(BIN)/.installed
	ruff format .
	ruff check --fix .

# Beside what a user would pick instead; alone on the machine, for about three quarters of an hour.
bench: $(BIN)/.installed-bench
	dvc repro $(foreach d,mnist english_text english_tasks games,prepare@$(d))
	python -m bench

setup: $(BIN)/.installed

$(BIN)/.installed-bench: $(BIN)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

$(BIN)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
