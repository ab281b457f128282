# make test: everything that must hold, in an environment of its own.   make demo: train and attack real digits.
PYTHON ?= python3
TEST := .venv-test
DEMO := .venv-demo

.PHONY: test lint demo clean

test: $(TEST)/.installed
	.ci/check $(TEST)/bin

lint: $(TEST)/.installed
	.ci/check $(TEST)/bin lint

# A compiler is needed here: without the native engine most of the tests would be skipped.
$(TEST)/.installed: pyproject.toml CMakeLists.txt $(shell find csrc pyfirstorder -type f -not -name '*.pyc' -not -name '*.so')
	test -x $(TEST)/bin/python || $(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(TEST)/bin/python -m pip install --quiet --group test --group lint
	$(TEST)/bin/python -m pip install --quiet ".[numba,cli,data]"
	$(TEST)/bin/python -P -c "import pyfirstorder.backends.cpu"
	touch $@

$(DEMO)/.installed: pyproject.toml CMakeLists.txt $(shell find csrc pyfirstorder -type f -not -name '*.pyc' -not -name '*.so')
	test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet ".[cli,data]"
	touch $@

clean:
	rm -rf $(TEST) $(DEMO) demo build dist
