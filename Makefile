# Every target sets itself up. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
export PYTHON

BIN := .venv/bin
ROOMS := $(wildcard contract model converter agent fleet outrider tests examples benchmarks)
PINS := constraints/packages.txt
LOCKER := .make/locker
ONNX2TF := converter/frontends/onnx2tf

.PHONY: help setup demo test test-heavy check format lock lock-heavy clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup:  ## Make .venv from the pinned packages; installs python3-venv and mosquitto when missing
	@.ci/setup

demo: setup  ## The whole path on real parts, in under 2 minutes. ARGS="--agents 12 --keep"
	@$(BIN)/outrider demo $(ARGS)

test: setup  ## Run the tests. ARGS="tests/contract -k golden", ARGS="-n 2"
	$(BIN)/python -m pytest $(ARGS)

test-heavy:  ## Run the tests that need TensorFlow, torch or onnx2tf, in environments of their own (5 GB)
	@.ci/heavy $(ARGS)

check: setup  ## Format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(ROOMS)
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory test

format: setup  ## Format the code, and mend what lint can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the pins that still fit. ARGS="--upgrade" takes the newest, "--upgrade-package NAME" one.
lock: $(LOCKER)  ## Pin the packages again after a change of pyproject.toml. ARGS="--upgrade"
	$(LOCKER)/bin/uv pip compile --quiet pyproject.toml --extra demo --extra tflite --extra images \
	    --extra sklearn --extra s3 --extra dev \
	    --universal --python-version 3.10 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate \
	    --custom-compile-command "make lock" --output-file $(PINS) $(ARGS)
	@! grep -nE '://|^ *-' $(PINS) | grep -v -- '--hash=sha256:' || \
	    { echo "$(PINS) names an index or a file: see your configuration of uv" >&2; exit 1; }

# torch's pins are pip's: `pip freeze` of an environment that its builds were found for.
lock-heavy: $(LOCKER)  ## Pin TensorFlow's and onnx2tf's environments again. ARGS="--upgrade"
	$(LOCKER)/bin/uv pip compile --quiet pyproject.toml --extra keras --extra dev \
	    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint $(PINS) \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	    --custom-compile-command "make lock-heavy" --output-file constraints/heavy-tf.txt $(ARGS)
	sed -n 's/^VERSION = "\(.*\)"$$/onnx2tf==\1/p' $(ONNX2TF).py | \
	    $(LOCKER)/bin/uv pip compile --quiet - \
	    --python-version 3.12 --python-platform x86_64-manylinux_2_28 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	    --custom-compile-command "make lock-heavy" --output-file $(ONNX2TF)-pins.txt $(ARGS)

$(LOCKER): constraints/locker.txt
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r $<
	touch $@

clean:  ## Remove what the targets made, demo-report too
	rm -rf .venv .make build dist demo-report .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
