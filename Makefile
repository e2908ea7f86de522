# Thin names for the commands in README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PORT ?= 5000
export PATH := $(BIN):$(PATH)

PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: bench help demo test test-all serve serve-published lint install lock figures clean

help:
	@echo "make demo     the whole pipeline on phantom images: train, serve, classify (ONCE=1: stop by itself)"
	@echo "make serve    Triton and the web page on what was exported last (PORT=5000)"
	@echo "make serve-published    the same with the published network, trained on real MRI"
	@echo "make test     the tests, but for the slowest"
	@echo "make test-all    all tests, and half an hour of fuzzing"
	@echo "make lint     ruff and mypy"
	@echo "make lock     requirements.txt and requirements-dev.txt anew from pyproject.toml (UPGRADE=--upgrade: newer versions)"
	@echo "make bench    ways to train the custom network, timed in turns"
	@echo "make figures  the pictures in docs/"

# The stamps are made last, so that an interrupted installation starts again.
$(VENV)/.runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements-dev.txt
	touch $@

# TensorFlow as in Triton's 25.02 image: a test loads the exported models there.
.venv-tf217/.ready: tests/requirements-tf217.txt
	$(PYTHON) -m venv .venv-tf217
	.venv-tf217/bin/pip install --quiet --disable-pip-version-check -r tests/requirements-tf217.txt
	touch $@

install: $(VENV)/.development

# What is locked stays at its version unless pyproject.toml or UPGRADE asks for another. The runtime is cut out of the whole.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" pyproject.toml --extra serve --extra train
lock: export UV_PYTHON_DOWNLOADS = never
lock: $(VENV)/.development
	$(LOCK) --group dev --output-file requirements-dev.txt $(UPGRADE)
	cp requirements-dev.txt requirements.txt
	$(LOCK) --output-file requirements.txt
	touch $(VENV)/.runtime $(VENV)/.development

demo: $(VENV)/.runtime
	$(BIN)/python demo.py --port $(PORT) $(if $(ONCE),--once)

serve: $(VENV)/.runtime
	PORT=$(PORT) $(BIN)/python -m serving --repository model_repository -- \
		$(BIN)/gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'

serve-published: $(VENV)/.runtime
	$(BIN)/dvc pull --quiet -r published published/model_repository
	PORT=$(PORT) $(BIN)/python -m serving --repository published/model_repository -- \
		$(BIN)/gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'

# Two workers, as most tests wait or run on one core; tests/conftest.py says what stays together and in which order. At the
# end branch coverage of what runs in the tests' own processes: the ten worst modules, and all together.
test: $(VENV)/.development .venv-tf217/.ready
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder --cov --cov-report=
	$(BIN)/coverage report --sort=cover | sed -n '1,12p;/^TOTAL/p'

# For what takes longer than CI may: tests marked slow, and the decoder fuzzed for half an hour.
test-all: test
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.support.fuzz_decode --seconds 1800

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.development
	$(BIN)/python -m bench.training

figures: $(VENV)/.development
	$(BIN)/python -m tools.figures

clean:
	rm -rf .demo .export .serving
