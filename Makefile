# Two commands are enough on a bare machine: `make demo` and `make test`. Both set up first.
# Wants GNU make 3.81, a POSIX shell, Python 3.11 or newer (its venv module, its pip).

PYTHON ?= $(shell sh tools/find_python.sh host)
PYTHON38 ?= $(shell sh tools/find_python.sh board)
PYTHON_TRAINING ?= $(shell sh tools/find_python.sh training)
PYTHON_FLEET ?= $(shell sh tools/find_python.sh fleet)
PIP_FLAGS ?=
BIN := .venv/bin
BIN38 := .venv38/bin
TRAINING := .venv-ort-training/bin
FLEET := .venv-fleet/bin
MNN := .venv-mnn/bin
KERAS := .venv-keras/bin
PIP := -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS)
CLEARED := build dist mobiletl.egg-info artifacts/demo artifacts/demo-run artifacts/digits artifacts/studio-demo \
	.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# make export: flag by flag, only what was given; the folder is named after the model.
# MODEL=FILE.py:FUNCTION is a network of one's own, METHOD=FILE.py:NAME a method.
OUT ?= artifacts/$(or $(patsubst %.py,%,$(notdir $(firstword $(subst :, ,$(MODEL))))),$(if $(filter demo,$(WEIGHTS)),mbv2-0.35,mbv2))
EXPORT_FLAGS = --out $(OUT) \
	$(if $(MODEL),--model $(MODEL)) \
	$(if $(WEIGHTS),--weights $(WEIGHTS)) \
	$(if $(METHOD),--method $(METHOD)) \
	$(if $(BLOCKS),--blocks $(BLOCKS)) \
	$(if $(SAVED),--saved $(SAVED)) \
	$(if $(PREFIX),--prefix $(PREFIX)) \
	$(if $(CALIBRATE),--calibrate $(CALIBRATE)) \
	$(if $(STEP),--step $(STEP)) \
	$(if $(RESOLUTION),--resolution $(RESOLUTION)) \
	$(if $(OPTIMIZER),--optimizer $(OPTIMIZER)) \
	$(if $(RUNTIMES),--runtimes $(RUNTIMES)) \
	$(if $(BATCH),--batch $(BATCH)) \
	$(if $(CLASSES),--classes $(CLASSES)) \
	$(if $(WHOLE_GRAPH),--whole-graph) \
	$(if $(REPLACE),--force)

.DEFAULT_GOAL := help
.PHONY: help demo studio-demo test test-all test-host test-slow test-board lint export bench bench-accuracy bench-cost bench-learning bench-fleet fleet ort-training bench-training bench-peers parity figures board-install wheelhouse emulate emulate-studio matrix attack attack-files clean FORCE

help: ## this list
	@echo "make TARGET [VARIABLE=value ...]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-15s %s\n' "$$name" "$$text"; done
	@echo "PYTHON=path picks the host's Python, PYTHON38=path the one for the board's tests;"
	@echo "PIP_FLAGS='...' goes to every pip install (an index of CPU builds of PyTorch, say)."

demo: build/host.installed ## set up, export, train on real pictures, predict
	@$(BIN)/python tools/demo.py

studio-demo: build/host.installed ## the studio in your browser, real pictures as its camera: PORT ANEW
	@$(BIN)/python tools/studio_demo.py $(if $(PORT),--port $(PORT)) $(if $(ANEW),--anew)

# In two processes where there are two cores and 4 GB for them: one that has PyTorch and a bundle in
# it takes up to 2 GB. Each process has a whole file of tests, whose exports it then makes once. One
# that dies ends the tests: with another in its place they would wait for ever (pytest-xdist 3.6).
WORKERS ?= $(shell sh tools/test_workers.sh)
PYTEST = -m pytest -q -n $(WORKERS) --dist loadscope --max-worker-restart=0 $(PYTEST_FLAGS)
IN_ORDER := --no-loadscope-reorder
# What runs on boards is tested on the board's Python, and on the host's in the slow tier.
ON_BOARD := runtime_tests/api runtime_tests/device

test: ## set up, lint, types, every test that is not slow (on Python 3.8 too where there is one): minutes
	@$(MAKE) --no-print-directory -j2 build/host.installed $(if $(PYTHON38),build/board.installed)
	@$(MAKE) --no-print-directory -j2 lint test-board
	@$(MAKE) --no-print-directory test-host

test-all: test ## and the slow tests: whole matrices, measured processes, emulated boards
	@$(MAKE) --no-print-directory test-slow

test-host: build/host.installed
	@echo "tests, host, $(WORKERS) at a time:"
	@$(BIN)/python $(PYTEST) $(IN_ORDER) -m "not slow" $(if $(PYTHON38),$(ON_BOARD:%=--ignore=%))

# onnxruntime-training and Flower have environments of their own; where one can't be installed, its
# tests say that they are skipped.
test-slow: build/host.installed $(if $(PYTHON_TRAINING),build/ort-training.installed) $(if $(PYTHON_FLEET),build/fleet.installed)
	@echo "slow tests, host, $(WORKERS) at a time:"
	@$(BIN)/python $(PYTEST) $(IN_ORDER) -m "slow and not long"
ifneq ($(PYTHON38),)
	@echo "tests of the board, on the host's Python:"
	@$(BIN)/python $(PYTEST) -m "not slow" $(ON_BOARD)
endif
ifneq ($(PYTHON_FLEET),)
	@echo "tests of a fleet, with Flower:"
	@$(FLEET)/python -m pytest -q runtime_tests/fleet $(PYTEST_FLAGS)
endif

ifeq ($(PYTHON38),)
test-board:
	@echo "tests, board: skipped, no python3.8 that runs on PATH or among pyenv's (PYTHON38=path names one)"
else
test-board: build/board.installed
	@echo "tests, board: $$($(BIN38)/python --version), onnxruntime $$($(BIN38)/python -c \
		'import onnxruntime; print(onnxruntime.__version__)'), no torch:"
	@$(BIN38)/python $(PYTEST) $(ON_BOARD)
endif

attack: build/host.installed attack-files ## kill, refuse and double runs at every system call, change files at random (hours): SEED CASES COUNT
	@$(if $(SEED),ATTACK_SEED=$(SEED)) $(if $(CASES),ATTACK_CASES=$(CASES)) \
		$(BIN)/python -m pytest -q -s runtime_tests/attacks $(PYTEST_FLAGS)

lint: build/host.installed ## style, format, strict types, import arrows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p mobiletl
	@$(BIN)/mypy tools
	@$(BIN)/lint-imports --no-logo

export: build/host.installed ## write a bundle: MODEL WEIGHTS METHOD BLOCKS SAVED PREFIX CALIBRATE STEP RESOLUTION OPTIMIZER RUNTIMES BATCH CLASSES WHOLE_GRAPH OUT REPLACE; BLOCKS=1,3,5 writes several levels; FIT=96MB takes what fits, with LEVELS=1 fewer blocks, too
	@$(BIN)/mobiletl $(if $(FIT),fit --memory $(FIT) $(if $(LEVELS),--levels),export) $(EXPORT_FLAGS)

bench: build/host.installed ## training speed and memory beside PyTorch's: BENCH_FLAGS
	@$(BIN)/python -m bench $(BENCH_FLAGS)

bench-accuracy: build/host.installed ## accuracy against measured memory and time: DATA WEIGHTS MODEL RESOLUTION EPOCHS SEEDS BENCH_FLAGS
	@test -n "$(DATA)" || { echo "make: which pictures? make bench-accuracy DATA=photos/ WEIGHTS=mobilenet_v2.safetensors" >&2; exit 2; }
	@$(BIN)/python -m bench.accuracy --data $(DATA) \
		$(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(MODEL),--model $(MODEL)) \
		$(if $(RESOLUTION),--resolution $(RESOLUTION)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(BENCH_FLAGS)

bench-cost: build/host.installed ## time and memory against batch, blocks and resolution, as plots: WEIGHTS OUT BENCH_FLAGS
	@$(BIN)/python -m bench.cost $(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(filter command line,$(origin OUT)),--out $(OUT)) $(BENCH_FLAGS)

bench-learning: build/host.installed ## accuracy after equal pictures, and time to it, beside PyTorch's: DATA WEIGHTS EPOCHS SEEDS BENCH_FLAGS
	@test -n "$(DATA)" || { echo "make: which pictures? make bench-learning DATA=photos/ (with train/ and test/) WEIGHTS=mobilenet_v2.safetensors" >&2; exit 2; }
	@$(BIN)/python -m bench.learning --data $(DATA) \
		$(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(BENCH_FLAGS)

parity: build/host.installed build/ort-training.installed ## one training in every runtime, beside PyTorch's autograd
	@$(BIN)/python -m parity

figures: build/host.installed ## the papers' figures, ours beside theirs, as pictures and CSV: OUT
	@$(BIN)/python tools/figures.py $(if $(filter command line,$(origin OUT)),--out $(OUT))

wheelhouse: build/host.installed ## all that a board installs, in one folder, without a network there: BOARD EXTRAS OUT
	@test -n "$(BOARD)" || { echo "make: which board? make wheelhouse BOARD=pi4" >&2; exit 1; }
	@$(BIN)/python tools/wheelhouse.py $(BOARD) $(if $(EXTRAS),--extras $(EXTRAS)) \
		$(if $(filter command line,$(origin OUT)),--out $(OUT))

board-install: build/host.installed ## put it and a bundle on a board over ssh: HOST BUNDLE SERVICE STUDIO
	@test -n "$(HOST)" || { echo "make: which board? make board-install HOST=pi@raspberrypi.local" >&2; exit 1; }
	@$(BIN)/python tools/board_install.py $(HOST) $(if $(BUNDLE),--bundle $(BUNDLE)) \
		$(if $(SERVICE),--service $(SERVICE)) $(if $(STUDIO),--studio) $(BOARD_FLAGS)

attack-files: build/host.installed
	@$(BIN)/python -m runtime_tests.attacks.mutated_files --seed $(or $(SEED),1) --count $(or $(COUNT),20000)

emulate: build/host.installed ## train on an emulated board: BOARD (pi4, pi5, jetson-nano, pi-zero2, all) ENGINE
	@$(BIN)/python -m emulation $(BOARD) $(if $(ENGINE),--engine $(ENGINE))

emulate-studio: build/host.installed ## use the studio on emulated boards: BOARD (default: pi4 and pi-zero2) ENGINE
	@$(BIN)/python -m emulation.studio $(BOARD) $(if $(ENGINE),--engine $(ENGINE))

matrix: build/host.installed ## every Python with its oldest and newest onnxruntime, x86 and emulated
	@$(BIN)/python -m emulation.matrix

# Flower wants other releases of what the host's tools are pinned to, and a board has no PyTorch.
fleet: build/fleet.installed ## set up .venv-fleet, a board's install with Flower, which the tests of fleets want

bench-fleet: build/fleet.installed build/host.installed ## 200 simulated boards on Flower's engine: DATA BUNDLE BENCH_FLAGS
	@test -n "$(DATA)" -a -n "$(BUNDLE)" || { echo "make: make bench-fleet BUNDLE=artifacts/demo DATA=cifar10-8k/ (with train/ and test/)" >&2; exit 2; }
	@$(FLEET)/python -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS) 'flwr[simulation]>=1.22,<1.23'
	@$(FLEET)/python -m bench.fleet --bundle $(BUNDLE) --data $(DATA) $(BENCH_FLAGS)
	@$(BIN)/python -m bench.fleet.table

# It occupies the import name of stock onnxruntime, so it has an environment of its own.
ort-training: build/ort-training.installed ## set up .venv-ort-training, which the tests of onnxruntime-training want

bench-training: build/host.installed build/ort-training.installed ## beside onnxruntime-training's own builder
	@$(BIN)/python -m bench.onnxruntime_training

bench-peers: build/host.installed build/mnn.installed build/keras.installed ## beside MNN and Keras, which it installs (2 GB): BENCH_FLAGS
	@$(BIN)/python -m bench.peers $(BENCH_FLAGS)

clean: ## remove caches, build outputs and the demo's files; bundles, runs/ and .venv stay
	rm -rf $(CLEARED)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ------------------------------------------------------------------------------

# A strict editable install (type checkers can follow it) lists its files once, at install time:
# it is repeated when a file comes or goes. The stamps live in build/, where its links live.
# setuptools is installed beside, not fetched for every build: the repetition needs no network.
build/files.txt: FORCE
	@mkdir -p build
	@find api core export device fitting fleet -type f ! -name '*.pyc' | LC_ALL=C sort > build/files.new
	@cmp -s build/files.new $@ && rm build/files.new || mv build/files.new $@

build/host.installed: .venv/pyvenv.cfg build/files.txt pyproject.toml constraints.txt
	@echo "installing mobiletl and its tools into .venv (the first time takes minutes) ..."
	@$(BIN)/python $(PIP) -c constraints.txt 'setuptools>=70.1'
	@$(BIN)/python $(PIP) -c constraints.txt --no-build-isolation \
		-e '.[dev]' --config-settings editable_mode=strict
	@touch $@

# As on a board: the base install, copied. build/lib would carry deleted files into the wheel.
build/board.installed: .venv38/pyvenv.cfg build/files.txt pyproject.toml $(shell find api device -name '*.py')
	@echo "installing mobiletl as on a board into .venv38 ..."
	@rm -rf build/lib
	@$(BIN38)/python $(PIP) 'setuptools>=70.1'
	@$(BIN38)/python $(PIP) --no-build-isolation '.[test]'
	@touch $@

build/ort-training.installed: .venv-ort-training/pyvenv.cfg constraints.txt
	@echo "installing onnxruntime-training into .venv-ort-training ..."
	@$(TRAINING)/python $(PIP) -c constraints.txt onnxruntime-training-cpu==1.19.2 torch onnx pytest \
		numpy pillow safetensors
	@mkdir -p build && touch $@

build/mnn.installed: .venv-mnn/pyvenv.cfg
	@echo "installing MNN into .venv-mnn ..."
	@$(MNN)/python $(PIP) MNN==3.6.1 numpy
	@mkdir -p build && touch $@

build/keras.installed: .venv-keras/pyvenv.cfg
	@echo "installing Keras and TensorFlow into .venv-keras ..."
	@$(KERAS)/python $(PIP) keras==3.15.1 tensorflow-cpu==2.21.0
	@mkdir -p build && touch $@

# As on a board that takes part in a fleet: the base install and Flower, copied, no PyTorch.
build/fleet.installed: .venv-fleet/pyvenv.cfg build/files.txt pyproject.toml $(shell find api device fleet -name '*.py')
	@echo "installing mobiletl with Flower into .venv-fleet ..."
	@rm -rf build/lib
	@$(FLEET)/python $(PIP) 'setuptools>=70.1' wheel
	@$(FLEET)/python $(PIP) --no-build-isolation '.[fleet]' pytest onnx
	@touch $@

.venv-mnn/pyvenv.cfg:
	@$(PYTHON) -m venv .venv-mnn || { rm -rf .venv-mnn; exit 1; }

.venv-keras/pyvenv.cfg:
	@$(PYTHON) -m venv .venv-keras || { rm -rf .venv-keras; exit 1; }

.venv-fleet/pyvenv.cfg:
	@test -n "$(PYTHON_FLEET)" || { echo "make: a fleet needs Python 3.9 to 3.12; install one, or name it: make PYTHON_FLEET=/path/to/python3" >&2; exit 1; }
	@$(PYTHON_FLEET) -m venv .venv-fleet || { rm -rf .venv-fleet; exit 1; }

.venv-ort-training/pyvenv.cfg:
	@test -n "$(PYTHON_TRAINING)" || { echo "make: onnxruntime-training needs Linux on x86-64 and Python 3.11; install it, or name it: make PYTHON_TRAINING=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON_TRAINING) -m venv .venv-ort-training || { rm -rf .venv-ort-training; exit 1; }

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer on PATH; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating .venv with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

.venv38/pyvenv.cfg:
	@$(PYTHON38) -m venv .venv38 || { rm -rf .venv38; exit 1; }

FORCE:
