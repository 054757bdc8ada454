# make demo   installs into .venv and runs the main job on a phantom (about 10 minutes on two CPU cores)
# make test   installs into .venv and runs all tests
# make fast   the tests that take about a minute
# make lint   ruff
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Without an NVIDIA GPU the versions in .ci/cpu-constraints.txt are taken, so that a CPU build of torch can serve where
# the package index has one. `make CPU=` installs whatever nnU-Net asks for; `make CPU=1` never looks for a GPU.
CPU ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || echo 1)

.PHONY: install demo test fast lint clean

install: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml setup.py .ci/install
	PYTHON="$(PYTHON)" VENV="$(VENV)" CPU="$(CPU)" bash .ci/install
	touch $@

demo: install
	$(BIN)/nnunet_partial demo -o demo_output

test: install
	PYTHONUTF8=1 $(BIN)/python -m pytest -n 2

fast: install
	PYTHONUTF8=1 $(BIN)/python -m pytest -n 2 -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info
