# pruneaug: `make demo` runs the main job, `make test` the tests. `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test check fix bench results clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## make .venv with pinned packages and the pruneaug command in it

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pruneaug needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make install PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[demo,dev,postgresql]'
	@touch $@

demo: install  ## profile this machine, search, fine-tune, export, bench and report on the digits CNN
	$(BIN)/pruneaug run recipes/digits-demo.yaml

test: install  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: install  ## format, lint, types, import layers, quick tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m 'not slow'

fix: install  ## format and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## short benchmark of layers and whole networks against dense ONNX Runtime
	$(BIN)/python benchmarks/kernels.py --shapes benchmarks/shapes/short.txt --blocks 8x1,32x1 --sparsities 0.9 --via onnxruntime --jsonl runs/kernels.jsonl
	$(BIN)/python benchmarks/models.py --networks resnet20-32,resnet18-64,mlp-b16 --sparsity 0.9 --seconds 3 --stock --jsonl runs/models.jsonl
	$(BIN)/python benchmarks/table.py runs/models.jsonl runs/kernels.jsonl

results: demo  ## layers and networks of docs/benchmarks.md measured anew, other engines too (about an hour)
	$(BIN)/python benchmarks/models.py --networks all --exported runs/digits-cnn --sparsity 0.9,0.75 --dense-regions --stock --predict 60 --peers deepsparse,openvino --jsonl runs/models.jsonl
	$(BIN)/python benchmarks/kernels.py --shapes benchmarks/shapes/single-layers.txt --blocks 8x1,32x1 --sparsities 0.5,0.75,0.9 --via onnxruntime --reference scipy,torch --seconds 2 --jsonl runs/nodes.jsonl
	$(BIN)/python benchmarks/kernels.py --shapes benchmarks/shapes/single-layers.txt --blocks 8x1,32x1 --sparsities 0.5,0.75,0.9 --via ctypes --seconds 2 --jsonl runs/kernels.jsonl
	$(BIN)/python benchmarks/kernels.py --shapes benchmarks/shapes/*-*.txt --blocks 8x1,32x1 --via onnxruntime --break-even --jsonl runs/break-even.jsonl
	$(BIN)/python benchmarks/table.py runs/models.jsonl runs/nodes.jsonl runs/kernels.jsonl runs/break-even.jsonl --into docs/benchmarks.md

clean:  ## remove the virtual environment, runs and caches of tools
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
