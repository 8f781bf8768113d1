# The only door: the README and .ci/run call these targets.

PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.alterrec-installed
SOURCES := pyproject.toml Cargo.toml Cargo.lock README.md LICENSE \
	$(shell find rust python -name '*.so' -prune -o -type f -not -path '*/__pycache__/*' -print)

.DEFAULT_GOAL := help
.PHONY: build format lint test bench docs help

build: $(INSTALLED)  ## build and install the package, with all that the tests need

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install '.[test]'
	touch $@

format: $(INSTALLED)  ## format Rust and Python
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED)  ## formatters in check mode, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy python/alterrec
	$(BIN)/python -m mypy.stubtest alterrec._core

test: $(INSTALLED)  ## all tests: Rust without Python, then Python against the installed package
	cargo test
	$(BIN)/pytest

bench: $(INSTALLED)  ## time the kernels against numpy and torch; equal results are asserted first
	$(BIN)/python benches/ranking.py
	$(BIN)/python benches/batches.py

docs: $(INSTALLED)  ## build the Rust documentation, run the examples of all documentation
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	$(BIN)/pytest tests/python/test_docs.py

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16
