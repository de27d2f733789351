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

test: setup-dev check ## Set up, run every check, then every test
	cargo test --locked

test-rootless: setup-dev ## Run every test as a user without privileges
	tests/rootless.sh

attack: setup-dev ## Run the attack suite alone and print its table
	cargo test --locked --test attacks

check: setup-dev ## Formatting, lints, proto lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(BIOME) ci --colors=off .
	$(RUFF) check --quiet runners/python
	$(RUFF) format --check --quiet runners/python
	$(PYRIGHT) --project runners/python --warnings
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

bench: setup ## Time executions against plain node, the proxy against none; tables in target/bench
	cargo bench --locked --no-fail-fast --bench execution --bench egress

build: ## Build the release binary
	cargo build --locked --release

setup: ## Install what the daemon needs (idempotent)
	@sandbox-images/setup.sh

setup-dev: ## Install what the daemon and the checks need (idempotent)
	@sandbox-images/setup.sh --dev

fmt: setup-dev ## Format everything in place
	cargo fmt
	$(BIOME) check --write .
	$(RUFF) check --fix --quiet runners/python
	$(RUFF) format --quiet runners/python
	shfmt -w $(SCRIPTS)

clean: ## Remove what was built and installed inside this directory
	cargo clean
	rm -rf runners/node/node_modules runners/python/.venv tests/tools/node_modules tests/tools/.venv

.PHONY: help demo test test-rootless attack check run bench build setup setup-dev fmt clean
