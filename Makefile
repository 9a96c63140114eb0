# make demo    the whole experiment on built-in data, minutes on two CPU cores; ends with the path of a report
# make paint   the page to paint on, with the generator that make demo trained; Ctrl-C ends it
# make check   linter, formatter, type check and the tests that start no process and no whole program, in a minute or two
# make test    the same and every other test: whole programs, several processes, the report's page in a browser, spoilt inputs
# make long    what takes many seconds and make test leaves out: kernels in the interpreter, two processes, networks in their own sizes, …
# make gpu     prove the GPU of this machine, in seven minutes at most: runs/gpu_check/gpu_check.md
# make fuzz    a thousand spoilt inputs; every program must answer with success or one line
# make site    the documentation as a site, in site/; make wheel: the wheel and the source distribution, in dist/
# make audit   known weaknesses of the pinned packages; asks the Python package index
# Both make .venv when it is missing and refresh it only when the dependency files changed.
# Other interpreter or folder: make test PYTHON=python3.12 VENV=/path. An installed torch is reused with VENV_FLAGS=--system-site-packages.

PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := runs/demo
# the tests are shared out between the cores; PYTEST_FLAGS= runs them in one process
PYTEST_FLAGS ?= -n auto --dist worksteal

.PHONY: demo paint gpu check test long lint install fuzz site wheel audit clean

demo: $(STAMP)
	$(PY) -m seg.train --config configs/seg/demo.yaml --head softmax --run_dir $(DEMO)/softmax
	$(PY) -m seg.train --config configs/seg/demo.yaml --run_dir $(DEMO)/embedding
	$(PY) -m synth.compare --config configs/synth/demo.yaml --run_dir $(DEMO)/comparison \
		--embeddings $(DEMO)/embedding/class_embeddings.safetensors --segmenter $(DEMO)/softmax

paint: $(STAMP)
	$(PY) -m synth.paint $(DEMO)/comparison/learned-seed0 --segmenter $(DEMO)/softmax --open

gpu: $(STAMP)
	$(PY) -m shared.gpu_check -o runs/gpu_check

fuzz: $(STAMP)
	$(PY) -m tests.fuzz --cases 1000

site: $(STAMP)
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

wheel: $(STAMP)
	$(PY) -c "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"

audit: $(STAMP)
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[audit]'
	$(PY) -m pip_audit --requirement constraints.txt --no-deps --disable-pip --strict

check: lint
	$(PY) -m pytest --quick $(PYTEST_FLAGS)

test: lint
	$(PY) -m pytest $(PYTEST_FLAGS)

long: $(STAMP)
	$(PY) -m pytest --long -m long $(PYTEST_FLAGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python {v[0]}.{v[1]} came; 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
