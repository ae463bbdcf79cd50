# Every verb of the project. CI calls these and nothing else.
# Needs Python 3.11 or newer with pip and venv; uv is fetched where it is missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null || echo .venv-tools/bin/uv)
RUN    := $(BIN)/python -m

# One thread per process: two processes that spin on two cores slow each other down many times over.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-gpu test-deploy test-faults test-groundingdino soak families check format lint types imports audit extras lock openapi proto bench world build clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/installed ## everything, from the hashed lock, into .venv

demo: install ## score 200 fresh scenes over HTTP, then align the captioner on such scores: demo/index.html, demo/csr/report.html
	$(BIN)/sightline demo --out demo
	$(BIN)/sightline reproduce csr --variants csr --set iterations=1 --scenes 100 --out demo/csr

test: install ## the default suite: no network, no GPU
	$(TEST_ENV) $(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow and not gpu"

test-slow: install ## what the default suite leaves out for time
	$(TEST_ENV) $(BIN)/pytest -q -m "slow and not gpu"

test-gpu: install ## what needs a CUDA device: scores there beside the CPU's
	$(TEST_ENV) $(BIN)/pytest -q -m gpu

test-deploy: install ## chart, images and a deployment under faults; brings its tools, podman too where you are root
	tests/deploy/tools.sh build/deploy $(UV) $(BIN)/python
	$(TEST_ENV) PATH="$(CURDIR)/build/deploy/bin:$(CURDIR)/$(BIN):$(PATH)" PYTHONPATH="$(CURDIR)/build/deploy/python" \
		$(BIN)/pytest -q -n 2 --dist loadfile --durations=10 tests/deploy

test-faults: install ## break a running service on purpose: faults, hostile bytes, generated cases
	$(TEST_ENV) $(BIN)/pytest -q -n 2 --dist worksteal --durations=10 tests/faults

test-groundingdino: install ## original Grounding DINO checkpoints, in an environment of their own
	$(UV) venv -q --clear --python $(BIN)/python build/groundingdino
	$(UV) pip sync -q --require-hashes --python build/groundingdino requirements/dev.txt requirements/groundingdino.txt
	$(UV) pip install -q --no-deps --python build/groundingdino -e .
	$(TEST_ENV) build/groundingdino/bin/python -m pytest -q -p no:xdist tests/families/original

MINUTES ?= 30
soak: install ## MINUTES=30 of steady load on the embedded models: nothing lost, nothing changed, no leak
	$(TEST_ENV) $(BIN)/python tests/faults/soak.py --minutes $(MINUTES) --out build/soak.json

families: install ## which models work: verifiers, detectors, policies
	$(RUN) sightline_service.models.families
	$(BIN)/python tests/families/policies/matrix.py

check: lint types imports audit extras ## format, lint, types, import contracts, known holes, each extra alone

format: install ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy
	$(BIN)/pyright

imports: install
	$(BIN)/lint-imports

audit: install ## known holes: in the code by bandit, in the locks by pip-audit
	$(BIN)/bandit -q -c pyproject.toml -r core proto services clients world
	$(BIN)/python requirements/audit.py

extras: extra-sdk extra-service extra-eval extra-trainers

# Each extra in an environment of its own: it must import with what it declares and nothing else.
extra-%: install
	$(UV) venv -q --clear --python $(BIN)/python build/extras/$*
	$(UV) pip sync -q --require-hashes --python build/extras/$* requirements/$*.txt
	$(UV) pip install -q --no-deps --python build/extras/$* .
	build/extras/$*/bin/python tests/extras/import_$*.py
	rm -rf build/extras/$*

lock: ## resolve the hashed requirement files from pyproject.toml
	$(MAKE) --always-make requirements/dev.txt requirements/sdk.txt requirements/service.txt requirements/eval.txt requirements/trainers.txt requirements/groundingdino.txt \
		requirements/deploy/build.txt requirements/deploy/tests.txt requirements/deploy/checkov.txt

COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
LOCK = $(COMPILE) pyproject.toml
# They have no prerequisite in pyproject.toml: only `make lock` resolves, whatever the times of a checkout's files.
requirements/sdk.txt: requirements/dev.txt
	$(LOCK) -c requirements/dev.txt -o $@
requirements/service.txt requirements/eval.txt requirements/trainers.txt requirements/groundingdino.txt: requirements/%.txt: requirements/dev.txt
	$(LOCK) -c requirements/dev.txt --extra $* -o $@
requirements/dev.txt:
	$(LOCK) --extra dev -o $@
requirements/deploy/%.txt: requirements/deploy/%.in
	$(COMPILE) $< -o $@

openapi: install ## rewrite proto/openapi.json and proto/sightline/v1/reward.proto from the code
	$(RUN) sightline_proto.schema
	$(RUN) sightline_service.openapi

bench: install ## Sightline beside its limits and its peers, whose environments it makes: build/bench/results
	PYTHONPATH=benchmarks $(BIN)/python -m sightline_bench $(BENCH)

world: install ## train the embedded models from nothing and calibrate (about two hours on two cores)
	$(RUN) sightline_world train all --out world/sightline_world/weights
	$(BIN)/sightline calibrate --world

build: install ## sdist and wheel in dist/
	$(UV) build -q --out-dir dist

clean: ## remove what the other verbs made
	rm -rf $(VENV) .venv-tools build dist demo

$(UV):
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install -q --disable-pip-version-check uv==0.13.8

$(VENV)/installed: requirements/dev.txt pyproject.toml | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync -q --require-hashes --python $(VENV) requirements/dev.txt
	$(UV) pip install -q --no-deps --python $(VENV) -e .
	touch $@
