# make demo   a small made corpus → records → training → results and plots; no download
# make test   all tests
# make torture  damaged files and tables, stopped runs, full disks: some minutes; not in CI
# make bench  measured beside PyTorch, Keras and librosa; written to docs/benchmarks.md
# make lint   ruff
# Each sets up .venv first.

PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check install --quiet

.PHONY: demo test torture bench lint

demo: .venv/ready
	$(BIN)/python launch.py --config=configs/cnn2d.py:demo
	@echo "Look at runs/cnn2d-demo-speaker_kfold/report/."

test: .venv/ready
	$(BIN)/python -m pytest

torture: .venv/ready
	$(BIN)/python -m tests.torture

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Written last, so that an interrupted installation is resumed.
.venv/ready: requirements.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -r requirements/dev.txt
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	touch $@

# In a virtual environment of its own: the alternatives take some 4 GB.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks

.venv-bench/ready: requirements.txt requirements/bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(PIP) -r requirements/bench.txt
	touch $@
