# Two commands are enough: `make demo` and `make check`. Both make the virtual environment they need.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
BIN = $(VENV)/bin
READY = $(VENV)/.ready
SAMPLE = data/sample

# Threads of torch that wait sleep instead of spinning: on a shared machine spinning is several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo check lint types imports test bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## virtual environment with both packages and everything the checks need

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(READY) ## the main job on the embedded sample: graphs, a baseline and a graph detector, their AP, a picture
	rm -rf $(OUT) && mkdir -p $(OUT)
	$(BIN)/kgtool build-relation $(SAMPLE)/vg/relationships.json --classes $(SAMPLE)/train.json --out $(OUT)/relation.npz
	$(BIN)/kgtool build-attribute $(SAMPLE)/vg/attributes.json --classes $(SAMPLE)/train.json --out $(OUT)/attribute.npz
	$(BIN)/detector train --data $(SAMPLE) --recipe faster_rcnn_sample --out $(OUT)/base
	$(BIN)/detector train --data $(SAMPLE) --graph $(OUT)/relation.npz --recipe reasoning_rcnn_sample \
		--init $(OUT)/base --out $(OUT)/run
	$(BIN)/detector predict $(OUT)/run $(SAMPLE)/images/test_000000.jpg --out $(OUT)/pictures
	@echo "Graphs, run and pictures are in $(OUT)"

check: lint types imports test ## everything a change must pass

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

test: $(READY) ## the test suite alone
	$(BIN)/pytest

bench: $(READY) ## every benchmark at a small size: both sides in one run, ratios printed
	$(BIN)/python bench/relations_to_graph.py --quick
	$(BIN)/python bench/attributes_to_graph.py --quick
	$(BIN)/python bench/growth.py --quick
	$(BIN)/python bench/split_vg.py --quick
	$(BIN)/python bench/triples_engines.py --quick
	$(BIN)/python bench/js_divergence.py --classes 1000
	$(BIN)/python bench/ade_boxes.py --rounds 3
	$(BIN)/python bench/mapping_accuracy.py --quick

clean: ## remove what make made
	rm -rf $(VENV) out
