# The front door. `make` alone lists what there is.
#
# Everything below sets up what it needs: a virtual environment in .venv (serving parts first, the training
# parts with torch only where a target needs them). Nothing outside this folder is changed, except that missing
# Debian packages are installed when run as root (scripts/system-packages.sh says which and why).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= out
SERIES ?=
PORT   ?= 8001
COUNT  ?= 60

# numpy<2 for nvidia-pytriton and torch's CPU build are pinned there, together with everything else.
PIP := PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help recovery demo serve test test-slow test-pacs lint format accuracy card parity chart docs fuzz chaos soak bench load plan sbom audit clean setup setup-dev

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.made:
	@scripts/system-packages.sh $(PYTHON)
	@echo "set-up: virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

KERNELS := core/hatch_build.py core/src/spinecore/_kernels.c

$(VENV)/.serving: $(VENV)/.made constraints.txt core/pyproject.toml $(KERNELS) server/pyproject.toml client/pyproject.toml
	@echo "set-up: Triton, OpenVINO and the client (about a minute)"
	@$(PIP) -e "core[files]" -e server -e "client[report]"
	@touch $@

$(VENV)/.dev: $(VENV)/.serving constraints.txt requirements-dev.txt benchmarks/load/requirements.txt training/pyproject.toml export/pyproject.toml
	@echo "set-up: torch, nnU-Net and the test tools (about two minutes)"
	@$(PIP) -e "core[files]" -e "server[gate,trace]" -e "client[report,dicom,compressed,trace,dicomweb,itk,pandas,completion]" \
		-e "export[nnunet,int8]" -e training -r requirements-dev.txt
	@$(PIP) -r benchmarks/load/requirements.txt  # apart: the file says why
	@touch $@

setup: $(VENV)/.serving ## install the serving parts only
setup-dev: $(VENV)/.dev ## install everything, torch and nnU-Net included

demo: $(VENV)/.serving ## a DICOM series goes in, a measured report comes out (SERIES=folder for your own)
	@$(BIN)/python scripts/demo.py --out $(OUT)/demo $(if $(SERIES),--series "$(SERIES)")

serve: $(VENV)/.serving ## start the server on 127.0.0.1:$(PORT) and keep it running (Ctrl-C stops it)
	@$(BIN)/spine-server --grpc-port $(PORT)

test: $(VENV)/.dev ## the fast tests, against a real Triton server
	@$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/.dev ## the tests that take minutes
	@$(BIN)/python -m pytest -m "slow and not gpu"

test-pacs: $(VENV)/.dev ## series and results to and from a real PACS (Orthanc, DICOMweb)
	@scripts/pacs-packages.sh
	@$(BIN)/python -m pytest tests/pacs

accuracy: $(VENV)/.dev ## COUNT held-out phantoms through a running server: Dice, level names, errors in mm
	@$(BIN)/python -m spine_training.accuracy --count $(COUNT) --out $(OUT)/accuracy $(if $(MACHINE),--machine "$(MACHINE)")

card: $(VENV)/.dev ## refresh training/MODEL_CARD.md and its pictures from what `make accuracy` wrote
	@$(BIN)/spine-train card --results $(OUT)/accuracy/accuracy.json $(if $(REAL),--real "$(REAL)")

parity: $(VENV)/.dev ## export every kind of nnU-Net model and hold it to nnUNetPredictor: a table
	@$(BIN)/python -m spine_export.parity --out $(OUT)/parity

chart: $(VENV)/.dev ## the Helm chart: lint, strict schemas, alerts' unit tests, and the CPU preset really run
	@$(BIN)/python scripts/chart_tools.py
	@$(BIN)/python scripts/chart_values_table.py --check
	@$(BIN)/python -m pytest tests/helm tests/server/gate -k "not clean_environment"  # that needs the index: make test-slow

recovery: $(VENV)/.serving ## kill stages and Triton again and again: seconds until the server answers (TIMES=5)
	@$(BIN)/python scripts/recovery.py --out $(OUT)/recovery --times $(or $(TIMES),5) $(if $(PARTS),--parts $(PARTS))

fuzz: $(VENV)/.dev ## hostile input to a real server and gate: what it answered, what it survived
	@PYTHONPATH=benchmarks $(BIN)/python -m reliability.fuzz --out $(OUT)/reliability $(if $(QUICK),--examples 150 --idle 300) $(if $(TARGET),--target $(TARGET))

chaos: $(VENV)/.dev ## faults under load, three replicas behind round robin and HAProxy (LONG=1 for longer)
	@scripts/chaos-packages.sh
	@PYTHONPATH=benchmarks $(BIN)/python -m reliability.chaos --out $(OUT)/reliability $(if $(LONG),--long) $(if $(ONLY),--only $(ONLY))

soak: $(VENV)/.dev ## 2 hours at 70 % load: memory, handles, /dev/shm, latency (MINUTES=5 for a short one)
	@PYTHONPATH=benchmarks $(BIN)/python -m reliability.soak --out $(OUT)/reliability --minutes $(or $(MINUTES),120)

bench: $(VENV)/.dev ## against nnUNetPredictor: time, memory, agreement (ARGS="--network demo --volume lumbar_t2")
	@PYTHONPATH=benchmarks $(BIN)/python -m speed --out $(OUT)/bench $(ARGS)

load: $(VENV)/.dev ## 3 minutes of load on a server started here: where it saturates (WORKLOAD=burst ARGS="--slo FILE")
	@$(BIN)/python benchmarks/run.py --out $(OUT)/load/run --workload $(or $(WORKLOAD),small) $(ARGS)

plan: $(VENV)/.dev ## replicas, cost and a lost node's harm for a day's studies (ARGS="--studies 5000 --p95 30 --price 2.5")
	@$(BIN)/python benchmarks/plan.py size --out $(OUT)/plan --times $(or $(TIMES),benchmarks/results/plan-times-2026-11-28.json) $(ARGS)

docs: $(VENV)/.dev ## the client's API reference, from its docstrings
	@$(BIN)/python scripts/api_reference.py --out $(OUT)/docs

sbom: $(VENV)/.dev ## what is in the images, as CycloneDX
	@$(BIN)/python scripts/sbom.py --out $(OUT)/sbom

audit: $(VENV)/.dev ## known weaknesses of the images' requirements (needs the network)
	@$(PIP) pip-audit
	@for kind in common cpu gpu; do \
		$(BIN)/pip-audit --disable-pip --require-hashes -r server/requirements-$$kind.txt || exit 1; done

lint: $(VENV)/.dev ## ruff, mypy --strict, bandit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy core/src client/src server/src export/src training/src
	@# B108 is about /dev/shm, which is where shared memory is; training and export are for trusted files.
	@$(BIN)/bandit --quiet --recursive -ll --skip B108 core/src server/src client/src model_repository scripts benchmarks

format: $(VENV)/.dev ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean: ## remove the virtual environment and all results
	rm -rf $(VENV) $(OUT)
