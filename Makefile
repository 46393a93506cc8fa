# `make demo` and `make test` do all their own set-up.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2
RUNS ?= runs/demo
SITE ?= site
BENCH ?=

.PHONY: install demo test check bench parity embedded lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(PY) requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: install
	rm -rf $(RUNS)
	for model in llava_ov_mask qwen2_vl_mask internvl2_mask; do for mask in none block; do \
	    $(VENV)/bin/lmms_eval --tasks mimic --model $$model --model_args mask=$$mask --batch_size 8 \
	        --verbosity WARNING --log_samples --output_path $(RUNS)/$$model-$$mask || exit $$?; \
	done; done
	@echo; $(VENV)/bin/mimic report $(RUNS)
	@echo; $(VENV)/bin/mimic leaderboard build $(RUNS) --out $(SITE)

# One thread a worker: two workers' threads would wait for each other. A file's tests run in one worker, so that
# what they share is made once.
test: install
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadscope

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Times mean something only where nothing else runs. BENCH=--quick: small sizes, to see that all of it works.
bench: install
	for name in attention prefill relevance_cost peers orders; do \
	    HF_HUB_OFFLINE=1 $(PY) benchmarks/$$name.py $(BENCH) || exit $$?; \
	done

parity: install
	$(PY) benchmarks/parity.py

# The packaged data, anew: a test checks that these commands give the committed bytes.
embedded: install
	rm -rf build/scenes mimic_tasks/embedded
	$(VENV)/bin/mimic scenes --out build/scenes --n 200 --seed 7
	$(VENV)/bin/mimic build --annotations build/scenes/annotations/instances_scenes.json \
	    --images build/scenes/images --out mimic_tasks/embedded --docs 60 --label embedded

lock:
	$(VENV)/bin/uv pip compile --quiet --universal --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) runs build dist
