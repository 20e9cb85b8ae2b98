# Wavegate. `make demo` shows it at work, `make test` runs every test; both install what they need from the system.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools
export WAVEGATE_LAB_DIR ?= $(CURDIR)/target/lab
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: lab-host build packages ## Upgrade a real fleet of hosts through etcd, compute and control (KEEP=1 leaves it up)
	target/debug/lab demo $(if $(KEEP),--keep)

.PHONY: demo-down
demo-down: ## Remove the fleet that `make demo KEEP=1` left
	target/debug/lab down --name demo

.PHONY: build
build: build-host ## Build everything
	$(CARGO) build --workspace --bins

.PHONY: packages
packages: packages-host ## Make the packages that operators install: deb and rpm, for hosts as old as Ubuntu 14.04 and CentOS 7
	packaging/build.sh

.PHONY: packages-lint
packages-lint: packages ## Check the packages with lintian, rpmlint, shellcheck and mandoc
	tests/lab/host.sh lint
	packaging/lint.sh

.PHONY: reproducible
reproducible: packages-host ## Make the packages of the last commit twice, in different places, and compare them
	packaging/reproducible.sh

.PHONY: lab-packages
lab-packages: packages ## Make the same packages in a later revision too, for tests of upgrades
	packaging/build.sh --binaries target/x86_64-unknown-linux-gnu/packaged --quick --revision 2 --out target/packages/later

.PHONY: test
test: lab-host build lab-packages ## Run every test: unit, property, in-process fleets, and real hosts with the packages
	$(CARGO) test --workspace --exclude wavegate-tests --no-run
	$(CARGO) test --package wavegate-tests --no-run
	$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=line test-here test-hosts

# The two halves of `test`. Hosts wait most of their time for something, and leave the processors to what runs here.
# Cargo has no use for make's jobs.
.PHONY: test-here test-hosts
test-here:
	MAKEFLAGS= $(CARGO) test --workspace --exclude wavegate-tests
	MAKEFLAGS= $(CARGO) run --package wavegate-model --bin mutants
	MAKEFLAGS= $(CARGO) test --package wavegate-tests --no-fail-fast --lib --bins \
		--test docs --test etcd_real --test fleet --test packages --test sim --test swarm
test-hosts:
	MAKEFLAGS= $(CARGO) test --package wavegate-tests --test lab -- --test-threads=4

.PHONY: test-quick
test-quick: build-host ## Run the tests that need neither root nor hosts
	$(CARGO) test --workspace --exclude wavegate-tests
	$(CARGO) test --package wavegate-tests --test fleet --test sim --test swarm

# What is measured is what ships: `packaged`. The swarm is only to be cheap beside it. Programs that measure something else
# write their rows to files before, and those are named in BENCH_ROWS.
BENCH_NODES ?= 100,1000,10000
.PHONY: bench
bench: build-host ## Measure a fleet of 100, 1,000 and 10,000 agents against the targets, in one table (BENCH_NODES=100,1000 for less)
	$(CARGO) build --profile packaged --package wavegate-coordinator --bin wavegate-coordinator
	$(CARGO) build --release --package wavegate-tests --bin bench
	target/release/bench table --binaries target/packaged --nodes $(BENCH_NODES) $(addprefix --rows ,$(BENCH_ROWS))

.PHONY: bench-lab
bench-lab: lab-host build packages ## Measure an upgrade of real hosts against the shell's, and what an agent takes (rows for make bench BENCH_ROWS=target/bench-lab.json)
	target/debug/lab bench --json target/bench-lab.json

.PHONY: sim
sim: build-host ## Simulate whole fleets under faults, in a time of their own (SEEDS=n, FROM=n, SEED=n for one)
	$(CARGO) run --release --package wavegate-tests --bin sim -- \
		$(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200) --from $(or $(FROM),1))

.PHONY: storm
storm: lab-host build lab-packages ## Kill and cut off coordinator and agents through whole upgrades (ROUNDS=n, SEED=n)
	WAVEGATE_STORM_ROUNDS=$(or $(ROUNDS),10) $(if $(SEED),WAVEGATE_STORM_SEED=$(SEED)) \
		$(CARGO) test --package wavegate-tests --test lab storm::a_storm -- --nocapture

.PHONY: etcd
etcd: lab-host build lab-packages ## Roll a real etcd cluster from 3.3 over 3.4 to 3.5 under clients that write, and show their longest stall
	$(CARGO) test --package wavegate-tests --test lab etcd::a_cluster_goes_up -- --nocapture

.PHONY: model
model: build-host ## Explore every world of small fleets, larger ones than `make test` does
	$(CARGO) run --package wavegate-model

.PHONY: mutants
mutants: build-host ## Take one guard of the core out after the other, and see that each is found out
	$(CARGO) run --package wavegate-model --bin mutants

.PHONY: check
check: format lint audit test packages-lint ## The one gate: format, lint, dependency audit, tests, the packages by their families' checkers

.PHONY: format
format: ## Check the format
	$(CARGO) fmt --all --check

.PHONY: lint
lint: build-host ## Check with clippy, warnings denied
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

.PHONY: audit
audit: ## Check licences, sources and banned crates of the dependencies
	@if [[ "$$(cargo-deny --version 2>/dev/null)" != "cargo-deny $(CARGO_DENY_VERSION)" ]]; then \
		$(CARGO) install --debug --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(TOOLS); \
	fi
	cargo-deny --locked check bans licenses sources

.PHONY: build-host
build-host: ## Install what a build needs from this machine: a C compiler and protoc (as root; Debian or Ubuntu)
	tests/lab/host.sh build

.PHONY: packages-host
packages-host: ## Install what making packages needs from this machine (as root; Debian or Ubuntu)
	tests/lab/host.sh packages

.PHONY: lab-host
lab-host: ## Install what real hosts need from this machine (as root; Debian or Ubuntu)
	tests/lab/host.sh

.PHONY: clean
clean: ## Remove what was built, and the lab
	@if [[ -x target/debug/lab ]]; then target/debug/lab down --all; fi
	$(CARGO) clean
