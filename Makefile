# Each target first sets up what it needs: a virtual environment in $(VENV) with pinned packages.
# Settings:  make test ARGS="-k sinkhorn"   make demo ARGS="--help"   make test PYTHON=python3.10

VENV := .venv
DIST := dist
ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif

BIN := $(VENV)/bin
READY := $(VENV)/ready
RUNTIME := $(VENV)/ready-runtime
WHEELS := $(VENV)/wheels

# Two test processes share the cores: one thread each for the kernels of TensorFlow and of NumPy.
PYTEST := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=2 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-slow lint bench bench-files fuzz wheel docs docs-serve has-mkdocs clean

demo: $(READY) $(RUNTIME)
	$(BIN)/larq-sks demo $(ARGS)

test: $(READY) $(RUNTIME)
	$(PYTEST) $(ARGS)

test-slow: $(READY) $(RUNTIME)
	$(PYTEST) -m slow $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-files: $(READY)
	$(BIN)/python benchmarks/files.py $(ARGS)

fuzz: $(READY)
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python tests/storage/fuzz.py $(or $(ARGS),--count 100000)

wheel: $(READY)
	$(BIN)/python -m build --outdir $(DIST)

# The site, in build/site. DOCS_EXECUTE=0 leaves out the runs of the notebooks, which take minutes.
MKDOCS := NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/mkdocs

docs: $(READY) has-mkdocs
	$(MKDOCS) build $(ARGS)

docs-serve: $(READY) has-mkdocs
	$(MKDOCS) serve $(ARGS)

has-mkdocs: $(READY)
	@test -x $(BIN)/mkdocs || { echo "The site is built on Python 3.11: make docs PYTHON=python3.11 VENV=.venv-3.11"; exit 1; }

# Made again when a requirement changes. An existing environment is kept if its pip works.
$(READY): setup.cfg pyproject.toml $(wildcard constraints/*.txt)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 12) or sys.exit("larq-sks needs Python 3.10, 3.11 or 3.12 and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.11" % v)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[tensorflow-cpu,plot,analyze,lce,docs,dev]' \
		--constraint constraints/$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
	@touch $@

# Needs a C++ compiler. Without one nothing is marked as made: the next call looks for it again.
$(RUNTIME): $(READY) $(shell find runtime/src runtime/include runtime/python runtime/CMakeLists.txt runtime/pyproject.toml -type f ! -name '*.pyc')
	@if [ "$$(uname -s)" != Linux ]; then \
		echo "larq-sks-runtime is left out: it is for Linux."; \
	elif ! command -v "$${CXX:-c++}" >/dev/null; then \
		echo "larq-sks-runtime is left out, and so are its tests and times: there is no C++ compiler."; \
	else \
		echo "Building larq-sks-runtime by $$(command -v "$${CXX:-c++}")"; \
		rm -rf $(WHEELS) && \
		$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEELS) ./runtime && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(WHEELS)/*.whl && \
		touch $@; \
	fi

clean:
	rm -rf $(VENV) $(DIST) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
