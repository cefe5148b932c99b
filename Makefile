# Everything one does with a checkout; `make` alone lists it. Options of what is started go in ARGS:
#   make run ARGS="--data /srv/octad --replicas 2"
PYTHON ?= python3
ARGS ?=

# Stamps: what is installed in .venv, redone only when the dependencies change.
server := .venv/.installed-server
everything := .venv/.installed-everything
pip := .venv/bin/python -m pip install --quiet --disable-pip-version-check
# First, since files have moved from one of the two distributions to the other, as bin/octad has.
uninstall := .venv/bin/python -m pip uninstall -qqq --yes octad octad-client

not_fast := cluster or etcd or root or long

.DEFAULT_GOAL := help
.PHONY: help .venv run check simulate simulate-cluster test test-etcd test-long bench bench-engine bench-replication bench-repair bench-coordinator bench-sharding sharding-study s3-tests fuzz chaos bench-client bench-checkpoint bench-command octad.pyz

help:  ## this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

.venv: $(everything)  ## the environment; .venv/bin/octad is the command

run: $(server)  ## a cluster of three nodes on this machine, until Ctrl-C (options in ARGS)
	@exec .venv/bin/octad dev $(ARGS)

check: $(everything)  ## format, lint, types, import rules, unit tests and simulations
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q -n auto --dist worksteal $(wildcard tests/unit tests/simulation) -m "not ($(not_fast))"

SEEDS ?= 500
simulate: $(everything)  ## failover under faults, the next SEEDS=500 seeds; goes on where it ended
	@PYTHONHASHSEED=0 .venv/bin/python -m tests.simulation --seeds $(SEEDS)

simulate-cluster: $(everything)  ## the same of whole nodes and the coordinator
	@.venv/bin/python -m tests.simulation.cluster --seeds $(SEEDS)

test: check  ## all of that, 700 simulated seeds, and the tests that start clusters, etcd and real clients
	$(MAKE) --no-print-directory simulate SEEDS=500
	.venv/bin/python -m tests.simulation.cluster --first 0 --seeds 200
	tools/ensure_etcd.sh
	.venv/bin/pytest $(wildcard tests/cluster tests/conformance) -m "not long"

test-etcd: $(everything)  ## only what needs a real etcd, with both versions of it
	tools/ensure_etcd.sh
	.venv/bin/pytest -m "etcd and not long"
	OCTAD_TEST_ETCD=$$(tools/ensure_etcd.sh 3.6) .venv/bin/pytest -m "etcd and not long"

test-long: $(everything)  ## what takes too long for every run: chaos schedules, membership and movement under load, 1000 copies, SDKs of other languages
	tools/ensure_etcd.sh
	.venv/bin/pytest -m long

s3-tests: $(everything)  ## ceph/s3-tests of a checkout, against what is known to pass (DIR=CHECKOUT)
	@exec .venv/bin/python -m tools.s3_tests "$(DIR)" $(ARGS)

fuzz: $(everything)  ## bytes that both ways into a node must answer alike (ARGS="-max_total_time=600")
	@$(pip) --editable ./client --editable '.[fuzz]'
	@exec .venv/bin/python -m tools.fuzz $(ARGS)

chaos: $(everything)  ## break a cluster on purpose for a minute, and check it (ARGS="--seed 7")
	@exec .venv/bin/python -m octad.chaos run $(ARGS)

octad.pyz: .venv/bin/pip  ## all of octad in one file, for machines with Python alone
	@$(pip) 'shiv>=1.0.8,<2'
	@.venv/bin/shiv --quiet --compressed --extend-pythonpath --reproducible \
	  --python '/usr/bin/env python3' --console-script octad --output-file $@ ./client .

bench: $(server)  ## figures of a three-node cluster on this machine (ARGS="--json", "--seconds 1")
	@exec .venv/bin/python -m tools.bench $(ARGS)

bench-engine: $(everything)  ## the storage engine alone, against its limits (ARGS="--objects 10000000")
	@exec .venv/bin/python -m tools.engine.bench $(ARGS)

bench-replication: $(everything)  ## what two more copies cost a PUT and a GET (ARGS="--rounds 3")
	@exec .venv/bin/python -m tools.bench_replication $(ARGS)

bench-rpc: $(everything)  ## what a frame between two nodes costs, and how late a beat is under load
	@exec .venv/bin/python -m tools.bench_rpc $(ARGS)

bench-coordinator: $(everything)  ## figures of the coordinator: watchers, map, placement, failover
	tools/ensure_etcd.sh
	@exec .venv/bin/python -m tools.bench_coordinator $(ARGS)

bench-client: $(everything)  ## what the Python SDK costs, beside boto3 and obstore (ARGS="--large 256")
	@exec .venv/bin/python -m tools.bench_client $(ARGS)

bench-checkpoint: $(everything)  ## what checkpoints of a job cost (ARGS="--large 256 --kept 1000")
	@exec .venv/bin/python -m tools.bench_checkpoint $(ARGS)

bench-command: $(everything)  ## octad sync beside aws s3 sync and rclone (ARGS="--files 2000")
	@exec .venv/bin/python -m tools.bench_command $(ARGS)

bench-repair: $(everything)  ## a node lost with its disk: how fast all is there three times again
	@exec .venv/bin/python -m tools.bench_repair $(ARGS)

bench-sharding: $(everything)  ## placement: look-ups, assignments, the comparison, against their limits
	@exec .venv/bin/python -m octad.sharding.study.bench

sharding-study: $(everything)  ## every figure of docs/explanation/sharding.md anew
	@exec .venv/bin/python -m octad.sharding.study.regenerate docs/explanation

$(server): pyproject.toml client/pyproject.toml | .venv/bin/pip
	@echo "installing octad into .venv"
	@$(uninstall)
	@$(pip) --editable ./client --editable .
	@touch $@

$(everything): pyproject.toml client/pyproject.toml | .venv/bin/pip
	@echo "installing octad and its development tools into .venv"
	@$(uninstall)
	@$(pip) --editable ./client --editable '.[study,dev]'
	@.venv/bin/python tools/fix_shebangs.py .venv/bin
	@touch $@ $(server)

.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "there is no $(PYTHON) here: install Python 3.11 or newer (sudo apt-get install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: name a newer one, as in make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
