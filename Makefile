# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Each target sets up what it needs; everything that gets made lands in .build/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CORES := 2.19 2.20 2.21
COLLECTIONS := $(CURDIR)/.build/collections
LINK := $(COLLECTIONS)/ansible_collections/gpufleet/vllm
RESULTS := .build/results

# More options for pytest, e.g. make integration-2.21 PYTEST="-k restart -x"
PYTEST :=

export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export ANSIBLE_HOME := $(CURDIR)/.build/ansible

# Two rows, one a core of a small machine. The playbooks make containers of the same names on each ansible-core, so their
# stages follow each other in one row.
STAGES := lint unit catalogue $(CORES:%=sanity-%) molecule
STAGES_BESIDE := library faults $(CORES:%=integration-%) e2e

.PHONY: help
help: ## this list
	@echo "make TARGET"
	@awk -F ':.*## ' '/^[a-z0-9%.-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: link ## from nothing to a served model on this machine, no GPU needed
	@tools/venvs.sh demo
	@tools/demo.sh up

.PHONY: demo-clean
demo-clean: link ## remove what `make demo` made, and nothing else
	@if [ -d .build/demo ]; then tools/venvs.sh demo; fi
	@tools/demo.sh clean

.PHONY: demo-status
demo-status: link ## how the server of the demonstration is
	@tools/venvs.sh demo
	@tools/demo.sh status

.PHONY: test
test: ## every test, with a table at the end (logs in .build/logs)
	@$(MAKE) prepare
	@tools/test.sh $(STAGES) beside $(STAGES_BESIDE)

# Rows of stages run at the same time, and neither apt-get nor pip likes a second one beside it.
.PHONY: prepare
prepare: link compiler ## what the stages of `make test` need: environments, the Docker Engine, the engines' images
	@tools/sanity.sh prepare
	@command -v rsync >/dev/null || { echo "installing rsync with apt-get" && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends rsync >/dev/null; }
	@tools/sshd.sh >/dev/null || true # the tests that need it are optional, and say what is missing
	@tools/venvs.sh lint $(CORES:%=core-%) target-3.9 molecule
	@tools/docker_engine.sh ensure
	@tools/podman_engine.sh ensure
	@tests/engine/engine.sh stand-in
	@tests/engine/engine.sh real
	@tests/engine/engine.sh model

.PHONY: test-fast
test-fast: link compiler ## ruff, mypy, yamllint and the unit tests: what to run while working
	@tools/venvs.sh lint core-2.19
	@$(MAKE) lint-python lint-types lint-yaml
	.build/venv-core-2.19/bin/python -m pytest -q tests/unit -n 2 $(PYTEST)

LINT := .build/venv-lint/bin
LINTERS := lint-python lint-types lint-yaml lint-ansible lint-docs lint-changelog

.PHONY: lint
lint: link ## ruff, mypy, yamllint, ansible-lint, documentation and changelog; goes on after a failure
	@tools/venvs.sh lint
	@$(MAKE) --keep-going $(LINTERS)

.PHONY: $(LINTERS)
lint-python:
	$(LINT)/ruff check
lint-types:
	$(LINT)/mypy
lint-yaml:
	$(LINT)/yamllint --strict .
lint-ansible:
	PATH="$(CURDIR)/$(LINT):$$PATH" ansible-lint -c .config/ansible-lint.yml
lint-docs:
	cd $(LINK) && PATH="$(CURDIR)/$(LINT):$$PATH" antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .
lint-changelog:
	PATH="$(CURDIR)/$(LINT):$$PATH" antsibull-changelog lint

.PHONY: sanity
sanity: $(CORES:%=sanity-%) ## ansible-test sanity on the three ansible-cores

.PHONY: $(CORES:%=sanity-%)
$(CORES:%=sanity-%): sanity-%:
	@tools/sanity.sh $*

UNITS := unit-2.19 unit-2.21 unit-target

# The stand-in for NVIDIA's library is compiled by the tests.
.PHONY: compiler
compiler:
	@command -v gcc >/dev/null || { echo "installing gcc with apt-get" && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends gcc libc6-dev >/dev/null; }

.PHONY: unit
unit: ## unit tests on the oldest and the newest ansible-core, and on Python 3.9 for what runs on targets
	@$(MAKE) --keep-going $(UNITS)

.PHONY: $(UNITS)
unit-2.19 unit-2.21: unit-%: link compiler
	@tools/venvs.sh core-$*
	.build/venv-core-$*/bin/python -m pytest tests/unit -n 2 --junitxml=$(RESULTS)/unit-$*.xml $(PYTEST)

# A module finds ansible.module_utils on a target, and nothing else of ansible-core.
unit-target: link compiler
	@tools/venvs.sh core-2.21 target-3.9
	@rm -rf .build/target-lib && mkdir -p .build/target-lib
	@ln -s "$$(.build/venv-core-2.21/bin/python -c 'import ansible; print(*ansible.__path__)')" .build/target-lib/ansible
	PYTHONPATH=.build/target-lib .build/venv-target-3.9/bin/python -m pytest tests/unit/plugins/module_utils \
		--junitxml=$(RESULTS)/unit-target.xml $(PYTEST)

.PHONY: library
library: link ## the container library against the real Docker Engine and a real Podman, without playbooks
	@tools/venvs.sh core-2.21
	@tools/docker_engine.sh ensure
	@tools/podman_engine.sh ensure
	@PATH="$(CURDIR)/.build/venv-core-2.21/bin:$$PATH" tests/engine/engine.sh stand-in
	.build/venv-core-2.21/bin/python -m pytest tests/integration/library -n 2 --junitxml=$(RESULTS)/library.xml $(PYTEST)

.PHONY: integration
integration: $(CORES:%=integration-%) ## the playbooks with the stand-in engine, on the three ansible-cores

.PHONY: $(CORES:%=integration-%)
$(CORES:%=integration-%): integration-%: link
	@tools/venvs.sh core-$* target-3.9
	@tools/docker_engine.sh ensure
	GPUFLEET_CORE=$* .build/venv-core-$*/bin/python -m pytest tests/integration --ignore tests/integration/library \
		--ignore tests/integration/faults -n 2 --dist loadfile --junitxml=$(RESULTS)/integration-$*.xml $(PYTEST)

.PHONY: faults
faults: link ## the fault table: what is reported, in how long, and what runs afterwards, against a real Docker Engine
	@tools/venvs.sh core-2.21
	@tools/docker_engine.sh ensure
	@rm -f $(RESULTS)/faults.jsonl
	.build/venv-core-2.21/bin/python -m pytest tests/integration/faults -n 2 --dist loadfile --junitxml=$(RESULTS)/faults.xml $(PYTEST)

.PHONY: faults-report
faults-report: ## write docs/faults.md anew from what `make faults` and `make e2e` have recorded
	@python3 tools/faults_report.py

.PHONY: molecule
molecule: link ## every molecule scenario
	@tools/venvs.sh molecule
	@tools/docker_engine.sh ensure
	@# A scenario that was ended between its preparation and its cleanup would be taken for prepared.
	@PATH="$(CURDIR)/.build/venv-molecule/bin:$$PATH" molecule reset --all
	PATH="$(CURDIR)/.build/venv-molecule/bin:$$PATH" molecule test --all

.PHONY: e2e
e2e: link ## one deployment of real vLLM (CPU build) with the tiny model
	@tools/venvs.sh core-2.21
	@tools/docker_engine.sh ensure
	GPUFLEET_CORE=2.21 .build/venv-core-2.21/bin/python -m pytest tests/e2e --junitxml=$(RESULTS)/e2e.xml $(PYTEST)

# The releases' own code runs in .build/catalogue/venv, which the tools make; its packages are pinned for this Python.
CATALOGUE_PYTHON = $(shell tools/pythons.sh find 3.11)

.PHONY: catalogue
catalogue: link ## the catalogue against vLLM itself: what we render, through the parsers of six releases
	@tools/venvs.sh core-2.21
	CATALOGUE_PYTHON=$(CATALOGUE_PYTHON) .build/venv-core-2.21/bin/python -m pytest tests/catalogue \
		--junitxml=$(RESULTS)/catalogue.xml $(PYTEST)

.PHONY: catalogue-verify
catalogue-verify: link ## what we render, through the parsers of every catalogued release of vLLM (about 20 minutes)
	$(CATALOGUE_PYTHON) tools/catalogue/verify.py --releases all

.PHONY: catalogue-refresh
catalogue-refresh: link ## extract the releases of vLLM that the catalogue lacks, and write the reference pages anew
	$(CATALOGUE_PYTHON) tools/catalogue/extract.py --releases new --out plugins/plugin_utils/data/catalogue
	$(CATALOGUE_PYTHON) tools/catalogue/nccl.py --out plugins/plugin_utils/data/catalogue
	@$(MAKE) reference

# These two print JSON and nothing else.
LIBRARY := PYTHONPATH=$(COLLECTIONS) .build/venv-demo/bin/python

.PHONY: catalogue-show
catalogue-show: link ## what the catalogue holds of a release: make catalogue-show RELEASE=0.33.0
	@tools/venvs.sh demo >&2
	@$(LIBRARY) tools/catalogue/show.py --release "$(RELEASE)"

.PHONY: render
render: link ## arguments and variables of a spec: make render SPEC=model.yml RELEASE=0.33.0
	@tools/venvs.sh demo >&2
	@$(LIBRARY) tools/render.py --spec "$(SPEC)" --release "$(RELEASE)"

.PHONY: reference
reference: link ## write the generated pages of docs/ anew, after the catalogue or the model of a spec has changed
	@tools/venvs.sh demo
	$(LIBRARY) tools/reference.py

.PHONY: accuracy
accuracy: link ## predictions of memory beside recorded starts and other tools: make accuracy [RECORDS=file] [JSON=out] [SPLITS=n]
	@tools/venvs.sh demo >&2
	@$(LIBRARY) tools/accuracy/report.py $(if $(RECORDS),--records "$(RECORDS)") $(if $(JSON),--json "$(JSON)") $(if $(SPLITS),--splits $(SPLITS))

.PHONY: diagnosis-score
diagnosis-score: link ## how often the right cause is ranked first: make diagnosis-score [SAMPLES=file] [JSON=out]
	@tools/venvs.sh demo >&2
	@$(LIBRARY) tools/diagnosis/score.py $(if $(SAMPLES),--samples "$(SAMPLES)") $(if $(JSON),--json "$(JSON)")

.PHONY: memory-refit
memory-refit: link ## fit the terms of the memory estimate anew: make memory-refit [RECORDS=file]
	@tools/venvs.sh demo >&2
	@$(LIBRARY) tools/memory/refit.py $(if $(RECORDS),--records "$(RECORDS)")

.PHONY: bench
bench: link ## measurements beside what one would use instead
	@tools/venvs.sh demo
	@tools/docker_engine.sh ensure
	benchmarks/run.sh

.PHONY: changelog
changelog: ## put the fragments of changelogs/fragments into CHANGELOG.md
	@tools/venvs.sh lint
	PATH="$(CURDIR)/$(LINT):$$PATH" antsibull-changelog release --update-existing --reload-plugins

.PHONY: sanity-ignores
sanity-ignores: ## write tests/sanity/ignore-*.txt anew, after an import in plugins/plugin_utils has changed
	@python3 tools/sanity_ignores.py

.PHONY: link
link: ## the tree .build/collections, in which the collection stands as ansible looks for it
	@mkdir -p $(dir $(LINK))
	@ln -sfn $(CURDIR) $(LINK)

.PHONY: clean
clean: ## remove what was made in .build, but for the engine images' cache
	rm -rf .build/venv-* .build/stage .build/sanity-home .build/pythons .build/uv-python .build/target-lib .build/molecule .build/tests \
		.build/collections .build/ansible .build/results .build/logs .build/mypy_cache .ansible .ruff_cache .pytest_cache
