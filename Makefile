# The README and .ci/run call these targets; nothing else needs to be known to build and test.

PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.alterrec-installed
SOURCES := pyproject.toml Cargo.toml Cargo.lock README.md LICENSE \
	$(shell find rust python -name '*.so' -prune -o -type f -not -path '*/__pycache__/*' -print)

# One pytest process per core, at most eight: each of them imports torch (0.4 GiB).
WORKERS ?= auto
KILLS ?= 1000
PYTEST = $(BIN)/pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal --durations=10

.DEFAULT_GOAL := help
.PHONY: build format lint test torture sanitize fuzz oldest lock light audit sbom bench docs help

build: $(INSTALLED)  ## build and install the package with everything that the tests need

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install '.[test,docs]'
	touch $@

format: $(INSTALLED)  ## format Rust and Python
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED)  ## run the formatters in check mode, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy python/alterrec
	$(BIN)/python -m mypy.stubtest alterrec._core

test: $(INSTALLED)  ## run all tests: Rust without Python, then Python against the installed package
	cargo test
	$(PYTEST)

torture: $(INSTALLED)  ## run the slow versions of some tests, and kill KILLS commands at random moments
	$(PYTEST) -m torture
	$(BIN)/python tests/python/kills.py $(KILLS)

# Sanitisers and coverage are unstable compiler flags; RUSTC_BOOTSTRAP makes a stable compiler accept them.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
RUNS ?= 4000
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

sanitize:  ## run the Rust tests under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' \
	cargo test --lib --tests --target $(HOST) --target-dir target/sanitizer

fuzz:  ## run RUNS inputs for each fuzz target under AddressSanitizer; needs a C++ compiler
	cd fuzz && RUSTC_BOOTSTRAP=1 RUSTFLAGS='--cfg fuzzing $(COVERAGE) -Zsanitizer=address' \
	cargo build --release --target $(HOST)
	for target in fuzz/fuzz_targets/*.rs; do \
		fuzz/target/$(HOST)/release/$$(basename $$target .rs) \
			-runs=$(RUNS) -seed=1 -max_len=4096 -len_control=0 -verbosity=0 || exit 1; \
	done

light: | $(BIN)/python  ## build alterrec-core, and test it with numpy alone: the oldest and the newest
	.ci/light $(BIN)/python

# What the continuous integration installs: .ci/run sets PIP_CONSTRAINT to this file.
LOCK := .ci/constraints.txt
OLDEST := .venv-oldest
TOOLS := .venv-tools

oldest: | $(BIN)/python  ## install the oldest versions that pyproject.toml allows, and run the Python tests with them
	$(PYTHON) -m venv --clear $(OLDEST)
	$(PYTHON) .ci/lower_bounds.py > $(OLDEST)/constraints.txt
	PIP_CONSTRAINT= $(OLDEST)/bin/python -m pip install --constraint $(OLDEST)/constraints.txt '.[test]'
	# Old versions warn about what newer ones of their own dependencies deprecate.
	$(OLDEST)/bin/pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal \
		-W ignore::DeprecationWarning -W ignore::FutureWarning

lock: $(INSTALLED)  ## write the versions of this environment to the lock file of the continuous integration
	$(BIN)/python -m pip freeze --exclude alterrec > $(LOCK)

$(TOOLS)/bin/pip-audit:
	$(PYTHON) -m venv $(TOOLS)
	PIP_CONSTRAINT= $(TOOLS)/bin/python -m pip install --quiet pip-audit cyclonedx-bom

audit: $(TOOLS)/bin/pip-audit  ## look for known vulnerabilities of the locked packages and crates
	.ci/audit $(TOOLS)

sbom: $(TOOLS)/bin/pip-audit  ## write sbom/python.cdx.json and sbom/rust.cdx.json (CycloneDX)
	mkdir -p sbom
	$(TOOLS)/bin/cyclonedx-py requirements $(LOCK) --pyproject pyproject.toml --of JSON -o sbom/python.cdx.json
	cargo cyclonedx --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-cyclonedx
	cargo cyclonedx --format json --all --override-filename rust.cdx
	mv rust.cdx.json sbom/

bench: $(INSTALLED)  ## time the kernels against the usual alternatives, after asserting equal results
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python benches/ranking.py
	$(BIN)/python benches/batches.py
	$(BIN)/python benches/prepare.py
	TQDM_DISABLE=1 $(BIN)/python benches/embedding.py
	cargo bench --bench core

docs: $(INSTALLED)  ## build the site with its tutorials into docs/_build/html, and the Rust documentation
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build/html
	ALTERREC_SITE=docs/_build/html $(BIN)/pytest -q tests/python/test_site_in_browser.py

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16
