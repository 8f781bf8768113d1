# The only door: the README and .ci/run call these targets.

PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.alterrec-installed
SOURCES := pyproject.toml Cargo.toml Cargo.lock README.md LICENSE \
	$(shell find rust python -name '*.so' -prune -o -type f -not -path '*/__pycache__/*' -print)

.DEFAULT_GOAL := help
.PHONY: build format lint test sanitize fuzz bench docs help

build: $(INSTALLED)  ## build and install the package, with all that the tests need

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install '.[test]'
	touch $@

format: $(INSTALLED)  ## format Rust and Python
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED)  ## formatters in check mode, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy python/alterrec
	$(BIN)/python -m mypy.stubtest alterrec._core

test: $(INSTALLED)  ## all tests: Rust without Python, then Python against the installed package
	cargo test
	$(BIN)/pytest

# Sanitisers and coverage are unstable flags; RUSTC_BOOTSTRAP lets a stable compiler take them.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
RUNS ?= 4000
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

sanitize:  ## the Rust tests under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' \
	cargo test --lib --tests --target $(HOST) --target-dir target/sanitizer

fuzz:  ## RUNS inputs for each fuzz target, under AddressSanitizer; needs a C++ compiler
	cd fuzz && RUSTC_BOOTSTRAP=1 RUSTFLAGS='--cfg fuzzing $(COVERAGE) -Zsanitizer=address' \
	cargo build --release --target $(HOST)
	for target in fuzz/fuzz_targets/*.rs; do \
		fuzz/target/$(HOST)/release/$$(basename $$target .rs) \
			-runs=$(RUNS) -seed=1 -max_len=4096 -len_control=0 -verbosity=0 || exit 1; \
	done

bench: $(INSTALLED)  ## time the kernels against what else one would use; equal results are asserted first
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python benches/ranking.py
	$(BIN)/python benches/batches.py
	TQDM_DISABLE=1 $(BIN)/python benches/embedding.py
	cargo bench --bench core

docs: $(INSTALLED)  ## build the Rust documentation, run the examples of all documentation
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	$(BIN)/pytest tests/python/test_docs.py

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16
