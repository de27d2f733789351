# The two commands that matter are `make demo` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

TARGET = $(or $(CARGO_TARGET_DIR),target)
# By platform, so looked up when used: the set-up may only just have put them there.
BIOME = $(firstword $(wildcard tests/tools/node_modules/@biomejs/cli-linux-*/biome))
BUF = $(firstword $(wildcard tests/tools/node_modules/@bufbuild/buf-linux-*/bin/buf))
PYRIGHT := tests/tools/node_modules/.bin/pyright
RUFF := tests/tools/.venv/bin/ruff
PYTHON := runners/python tests/clients

# Where Node is when the machine's own was too old; see sandbox-images/setup.sh.
export PATH := $(PATH):/usr/local/bin

# Shell scripts, by name or by a line that starts bash.
SCRIPTS = $(sort $(shell git ls-files --cached --others --exclude-standard '*.sh' '*.bash') \
	$(shell git grep --untracked -lE '^#!(/usr)?/bin/(env )?(ba)?sh' -- ':!*.rs' ':!*.md' ':!*.js*'))

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Install what is missing, build, and run the story of a session through gRPC
	cargo build --locked --bin pagebox --example demo
	$(TARGET)/debug/examples/demo

ATTACK_DOC := 'docs/attack-suite.md is what the cases say'

# The same cases every time; `make properties` looks for others.
test attack: export PROPTEST_RNG_SEED ?= 7370
test: setup-dev check ## Set up, run every check, then every test; the attack suite is `make attack`
	cargo test --locked --lib --bins --test it
	cargo test --locked --test attacks -- --exact $(ATTACK_DOC)

properties: setup-dev ## Try each property on new cases, ROUNDS times (20)
	cargo test --locked --lib --no-run
	for round in $$(seq $(or $(ROUNDS),20)); do cargo test --locked --quiet --lib property; done

test-rootless: setup-dev ## Run every test as a user without privileges
	tests/rootless.sh

test-vm: setup-dev ## Sessions and limits in a virtual machine that has cgroup version 2 only; as root
	tests/vm/run.sh

attack: setup-dev ## Run the attack suite alone and print its table
	cargo test --locked --test attacks

attack-rootless: setup-dev ## The same as a user without privileges
	tests/rootless.sh attacks

attack-doc: setup-dev ## Write docs/attack-suite.md anew from the cases
	PAGEBOX_WRITE_ATTACK_DOC=1 cargo test --locked --test attacks -- --exact $(ATTACK_DOC)

check: setup-dev ## Formatting, lints, proto lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(BIOME) ci --colors=off .
	$(RUFF) check --quiet $(PYTHON)
	$(RUFF) format --check --quiet $(PYTHON)
	$(PYRIGHT) --project runners/python --warnings
	$(PYRIGHT) --project tests/clients --warnings
	shellcheck $(SCRIPTS)
	shfmt -d $(SCRIPTS)
	$(BUF) lint proto
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --locked check; \
	else \
		echo "SKIP cargo deny: not installed (cargo install --locked cargo-deny)"; \
	fi

run: setup ## Start the daemon on 127.0.0.1:7370; arguments in ARGS="--host-loopback 8080"
	cargo build --locked --release
	$(TARGET)/release/pagebox serve $(ARGS)

# Pinned: what runs here is what was reviewed.
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= cdp_message cdp_pipe runner_frame proxy_request egress_rule egress_target spawner_command

fuzz: ## Fuzz each parser for FUZZ_SECONDS (60); FUZZ_TARGETS="cdp_pipe" for some. Needs a nightly Rust
	@if ! cargo +nightly --version >/dev/null 2>&1; then \
		echo "SKIP fuzz: no nightly toolchain (rustup toolchain install nightly --profile minimal)"; \
		exit 0; \
	fi; \
	if [[ "$$($(TARGET)/tools/bin/cargo-fuzz --version 2>/dev/null)" != "cargo-fuzz $(CARGO_FUZZ)" ]]; then \
		cargo install --locked --root $(TARGET)/tools cargo-fuzz@$(CARGO_FUZZ); \
	fi; \
	for target in $(FUZZ_TARGETS); do \
		mkdir -p "$(TARGET)/fuzz/corpus/$$target"; \
		PATH="$(TARGET)/tools/bin:$$PATH" cargo +nightly fuzz run --sanitizer none --target-dir $(TARGET)/fuzz \
			"$$target" "$(TARGET)/fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=30 -print_final_stats=1; \
	done

BENCHES := execution start kill density load soak sandbox gateway profile live prompt egress

bench: setup-dev ## Measure everything against what one would do instead; tables in target/bench, see docs/performance.md
	rm -f target/bench/*
	cargo bench --locked --no-fail-fast $(BENCHES:%=--bench %)

soak: setup-dev ## The long run alone: SESSIONS (1000) sessions, and that nothing grows
	SESSIONS=$(or $(SESSIONS),1000) cargo bench --locked --bench soak

bench-doc: ## Put the results of the last `make bench` into docs/performance.md
	node benches/scripts/document.mjs

build: ## Build the release binary
	cargo build --locked --release

setup: ## Install what the daemon needs (idempotent)
	@sandbox-images/setup.sh

setup-dev: ## Install what the daemon and the checks need (idempotent)
	@sandbox-images/setup.sh --dev

fmt: setup-dev ## Format everything in place
	cargo fmt
	$(BIOME) check --write .
	$(RUFF) check --fix --quiet $(PYTHON)
	$(RUFF) format --quiet $(PYTHON)
	shfmt -w $(SCRIPTS)

clean: ## Remove what was built and installed inside this directory
	cargo clean
	rm -rf runners/node/node_modules runners/python/.venv tests/tools/node_modules tests/tools/.venv \
		tests/clients/node_modules tests/clients/.venv

.PHONY: help demo test properties test-rootless test-vm attack attack-rootless attack-doc check run fuzz bench soak bench-doc build setup setup-dev fmt clean
