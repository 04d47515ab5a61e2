# make demo   a small made corpus → records → training → results and plots; no download
# make test   all tests
# make bench  measured beside PyTorch, Keras and librosa; written to docs/benchmarks.md
# make lint   ruff
# Each sets up .venv by itself.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench lint

demo: .venv/ready
	$(BIN)/python launch.py --config=configs/cnn2d.py:demo
	@echo "Look at runs/cnn2d-demo-speaker_kfold/report/."

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Written last, so that an interrupted installation is taken up again.
.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Into a virtual environment of its own: the alternatives take some 4 GB.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks

.venv-bench/ready: requirements.txt requirements-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@
