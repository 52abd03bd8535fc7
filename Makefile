# Everything a newcomer or CI runs. Each target does its own set-up and can be run again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := PYTHONPATH=hack $(VENV)/bin/python
PYTEST := $(PY) -m pytest
STAMP := $(VENV)/.installed
KUBECONFIG_DEMO := build/kubeconfig

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 22

$(STAMP): requirements-dev.txt pyproject.toml
	@echo "== Python environment in $(VENV)"
	@# Debian has ensurepip in a package of its own.
	@python3 -c 'import ensurepip, venv' 2>/dev/null || hack/debian-packages python3-venv
	python3 -m venv $(VENV)
	@# The lock is complete: left to itself, pip looks for newer versions of what an extra asks for.
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PY) -m pip check --disable-pip-version-check
	@touch $@

.PHONY: venv
venv: $(STAMP) ## the Python environment, from the locked requirements

.PHONY: lock
lock: $(STAMP) ## write requirements*.txt anew from pyproject.toml
	$(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --strip-extras --allow-unsafe -o requirements.txt pyproject.toml
	$(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --strip-extras --allow-unsafe --extra dev -o requirements-dev.txt pyproject.toml

# ---- quality ---------------------------------------------------------------------------------

.PHONY: lint
lint: $(STAMP) ## ruff, ruff format, mypy strict, import-linter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(MAKE) --no-print-directory mypy
	$(VENV)/bin/lint-imports

.PHONY: mypy
mypy: $(STAMP)
	$(VENV)/bin/mypy
	MYPYPATH=operator:hack $(VENV)/bin/mypy -p stack -p demo -p bench
	$(VENV)/bin/mypy hack/localkube

.PHONY: generate
generate: $(STAMP) ## write generated files: CRDs, tables of catalog and license modes, OpenAPI
	$(PY) -m brinkbyte.resources.crd
	$(PY) -m brinkbyte.catalog.docs docs/catalog.md
	$(PY) -m brinkbyte.license.docs docs/license-modes.md
	$(PY) -m brinkbyte.billing.openapi docs/openapi.json

.PHONY: check-generated
check-generated: $(STAMP) ## fail when a generated file is stale
	$(PY) -m brinkbyte.resources.crd --check
	$(PY) -m brinkbyte.catalog.docs --check docs/catalog.md
	$(PY) -m brinkbyte.license.docs --check docs/license-modes.md
	$(PY) -m brinkbyte.billing.openapi --check docs/openapi.json

# ---- tests -----------------------------------------------------------------------------------

.PHONY: unit
unit: $(STAMP) ## the fast part: no network, no services, under a minute
	$(PYTEST) -n 2 tests/unit

.PHONY: debian-packages
debian-packages: ## PostgreSQL, Redis: what the service tests run
	@hack/debian-packages

.PHONY: images
images: $(STAMP) ## the project's image and, without a registry, local PostgreSQL, Redis and Triton
	$(PY) -m stack.images

.PHONY: test
test: lint check-generated debian-packages images ## everything: unit, real services, a real cluster
	rm -f .coverage .coverage.*
	@# Three processes on two cores: tests on the cluster mostly wait.
	$(PY) -m coverage run -m pytest -n 3 --no-loadscope-reorder tests
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

.PHONY: soak
soak: $(STAMP) debian-packages images ## the long tests at full size
	BRINKBYTE_SOAK=1 $(PYTEST) -n 2 --no-loadscope-reorder tests -m soak

.PHONY: bench
bench: $(STAMP) debian-packages images ## build/bench.json: each figure beside a reference of the same run
	$(PY) -m bench

# ---- demo ------------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMP) $(if $(DEMO_KUBECONFIG),,images) ## a cluster, the charts, the examples: licensed and metered
	$(PY) -m demo

.PHONY: trust
trust: $(STAMP) ## build/trust/roots.json: the demo's root of trust, for an image that you build yourself
	$(PY) -m stack.trust

.PHONY: demo-down
demo-down: ## remove the demo's cluster
	$$(hack/cluster-tool) delete cluster --name brinkbyte-demo --kubeconfig $(KUBECONFIG_DEMO)

.PHONY: clean-all
clean-all: ## remove what demo and tests made; keeps the build cache and Debian packages
	@hack/clean-all
