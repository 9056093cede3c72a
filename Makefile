# Two commands on a fresh machine: `make repro` runs the main job, `make test` the tests.
EXPERIMENTS ?= gan dqn bert
SCALE ?= paper
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro paper-gpu test check format bench setup site

# One experiment after another, so that the first verdicts are there early. DVC parses pipeline.yaml before `source` can
# run, and would not say where a mistake is, so it is validated first.
repro: $(BIN)/.installed
	@reprise validate >/dev/null
ifeq ($(EXPERIMENTS),all)
	dvc repro
else
	$(foreach e,$(EXPERIMENTS),dvc repro evaluate@$(e) &&) dvc repro --single-item report
endif
	@echo 'next: reprise report --open; the verdicts again by $(strip reprise verdicts $(filter-out all,$(EXPERIMENTS)))'

# What a GPU makes possible at the papers' own scale: papers with their arms, the cheapest first. If it is stopped, the
# same command goes on where it was. At smoke scale it is a test, with arms that exist at that scale.
PAPER_GPU.paper := \
	optimizers/adagrad/nesterov/rmsprop/adam \
	$(if $(wildcard params/resnet.yaml),resnet/residual_20) \
	lottery_ticket/objects_conv_2_ticket_9/objects_conv_2_ticket \
	regularisation/objects_dropout/dropout_max_norm
PAPER_GPU.smoke := optimizers/nesterov/adam lottery_ticket/dense/ticket regularisation/dropout_max_norm
PAPER_GPU ?= $(PAPER_GPU.$(SCALE))
# GiB per run, so that several runs share a GPU. Without a GPU it has no effect.
GPU_MEMORY ?= 4

paper-gpu: $(BIN)/.installed
	$(if $(strip $(PAPER_GPU)),,$(error SCALE is $(SCALE); expected paper or smoke))
	reprise prepare small_images scale=$(SCALE)
	@set -e; for each in $(PAPER_GPU); do \
		paper=$${each%%/*}; arms=$$(echo "/$${each#*/}" | sed 's:/: --arm :g'); \
		for stage in pretrain evaluate; do \
			echo reprise $$stage $$paper$$arms; \
			reprise $$stage $$paper$$arms scale=$(SCALE) runtime.gpu_memory=$(GPU_MEMORY); \
		done; \
	done

test: $(BIN)/.chromium
	pytest -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart=0

check: $(BIN)/.installed
	ruff format --check .
	ruff check .
	pyright
	codespell src tests docs params papers datasets *.md *.yaml
	lint-imports
	reprise validate

format: $(BIN)/.installed
	ruff format .
	ruff check --fix .

# Beside what a user would pick instead; alone on the machine, for about three quarters of an hour.
bench: $(BIN)/.installed-bench
	dvc repro $(foreach d,mnist english_text english_tasks games,prepare@$(d))
	python -m bench

# The page and the docs as one folder, for any host; ADDRESS is where it will be, if that is known.
site: $(BIN)/.installed
	reprise site $(if $(ADDRESS),--address $(ADDRESS))

setup: $(BIN)/.installed

# The tests of the page need a browser; where none can be had they are skipped, and say so.
$(BIN)/.chromium: $(BIN)/.installed
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	{ test "$$(id -u)" = 0 && apt-get -qq update && apt-get -qq install --yes chromium >/dev/null; } 2>/dev/null \
	|| timeout 300 playwright install chromium >/dev/null 2>&1 \
	|| echo "no Chromium could be installed: the tests of the page are skipped"
	@touch $@

$(BIN)/.installed-bench: $(BIN)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

$(BIN)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/reprise schema >/dev/null  # what editors check the files of YAML by
	touch $@
