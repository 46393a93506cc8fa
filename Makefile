# `make demo` and `make test` do all their own set-up.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2
RUNS ?= runs/demo
SITE ?= site
BENCH ?=
NEWEST := build/newest
PACKAGE := build/package
# The Python that the built package is installed into: a 3.12, if there is one, since .venv usually has a 3.11.
PACKAGE_PYTHON ?= $(firstword $(shell for p in python3.12 $(HOME)/.pyenv/versions/3.12.*/bin/python; do \
    $$p -c "" 2>/dev/null && command -v $$p; done) $(PY))

.PHONY: install demo docs test check package bench gpu parity embedded lock newest clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(PY) requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	touch $(STAMP)

# Two runs at a time, each with one thread. What a run prints goes to its log; of a run that fails the end is shown.
DEMO := $(foreach model,llava_ov_mask qwen2_vl_mask internvl2_mask,$(model)-none $(model)-block)

demo: install
	@rm -rf $(RUNS); mkdir -p $(RUNS)
	@echo "$(words $(DEMO)) runs (four tasks, and Odd-One with its images in every cyclic order):"
	@printf '%s\n' $(DEMO) | tr - ' ' | OMP_NUM_THREADS=1 MIMIC_ORDERS=cyclic xargs -P 2 -L 1 sh -c ' \
	    run=$(RUNS)/$$0-$$1; $(VENV)/bin/lmms_eval --tasks mimic,mimic_oddone_permuted --model $$0 \
	        --model_args mask=$$1 --batch_size 8 --verbosity WARNING --log_samples --output_path $$run \
	        > $$run.log 2>&1 && echo "  $$0 mask=$$1" || { tail -n 20 $$run.log; exit 255; }'
	@echo; $(VENV)/bin/mimic report $(RUNS)
	@echo; $(VENV)/bin/mimic leaderboard build $(RUNS) --out $(SITE) | grep -v '^Wrote'
	@echo "The leaderboard is $(abspath $(SITE))/index.html: open it in a browser, it needs no network."
	@echo "It ranks the six runs by paired tests, shows every doc with every answer, and under Robustness how often an answer changes with the order of the images."
	@echo "Next: mimic reproduce --list (figures of papers on your model), or README.md for a real checkpoint and COCO pictures."

# The documentation as a site, without network; a broken link is an error.
docs: install
	@$(PY) docs/site/build.py --out build/docs

# One thread a worker: two workers' threads would wait for each other. A file's tests run in one worker, so that
# what they share is made once.
test: install
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# A source archive, the wheel made from it, a fresh environment with the wheel, and the user's command run from there.
package: install
	rm -rf $(PACKAGE)
	$(VENV)/bin/uv build --quiet --no-build-isolation --python $(PY) --out-dir $(PACKAGE)
	$(VENV)/bin/uv venv --quiet --python $(PACKAGE_PYTHON) $(PACKAGE)/env
	$(VENV)/bin/uv pip install --quiet --python $(PACKAGE)/env --constraints requirements.lock $(PACKAGE)/*.whl
	@cd $(PACKAGE) && env/bin/python --version && env -u PYTHONPATH HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 MIMIC_CACHE=cache \
	    env/bin/lmms_eval --tasks mimic_counting --model llava_ov_mask --limit 2 2> log > table || { tail -n 20 log table; exit 1; }
	@sed -n '/^data embedded; model/,/^mimic_counting/p' $(PACKAGE)/table | grep . || { cat $(PACKAGE)/table; exit 1; }

# Times mean something only where nothing else runs. BENCH=--quick: small sizes, to see that all of it works.
bench: install
	for name in attention training_attention prefill masks diagnose_cost relevance_cost peers orders; do \
	    HF_HUB_OFFLINE=1 $(PY) benchmarks/$$name.py $(BENCH) || exit $$?; \
	done

# On a machine with one GPU, at most 8 minutes: parity in half precision, kernels, true shapes, a training step.
gpu: install
	HF_HUB_OFFLINE=1 $(PY) benchmarks/gpu.py

parity: install
	$(PY) benchmarks/parity.py

# The packaged data, anew: a test checks that these commands give the committed bytes.
embedded: install
	rm -rf build/scenes mimic_tasks/embedded
	$(VENV)/bin/mimic scenes --out build/scenes --scenes 200 --seed 7
	$(VENV)/bin/mimic build --annotations build/scenes/annotations/instances_scenes.json \
	    --images build/scenes/images --out mimic_tasks/embedded --docs 60 --label embedded
	rm -rf build/order
	$(VENV)/bin/mimic build --annotations build/scenes/annotations/instances_scenes.json \
	    --images build/scenes/images --out build/order --docs 24 --label embedded --tasks pqa,retrieval --n-images 4
	mv build/order/manifest.json build/order/manifest_order.json
	cp -r build/order/pqa build/order/retrieval build/order/mimic_*.yaml build/order/manifest_order.json mimic_tasks/embedded
	$(VENV)/bin/python -Pc "from pathlib import Path; from mimic_tasks.folder import write_card; \
	    four = dict.fromkeys(('counting', 'listing', 'common', 'oddone'), 60); \
	    write_card(Path('mimic_tasks/embedded'), label='embedded', seed=0, counts={**four, 'pqa': 24, 'retrieval': 24}, \
	        manifests=('manifest.json', 'manifest_order.json'))"

lock:
	$(VENV)/bin/uv pip compile --quiet --universal --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock

# The tests of what we wrap of other packages, with the newest version of each dependency, whatever our upper bounds
# say, in an environment of its own. Prints what is newer than the lock, then the tests that fail.
newest: install
	rm -rf $(NEWEST)
	$(VENV)/bin/uv venv --quiet --python $(PY) $(NEWEST)
	sed -n '/^dependencies = \[/,/^\]/s/^ *"\([A-Za-z0-9-]*\)\(==[0-9.]*\)\{0,1\}[^"]*",$$/\1\2/p' pyproject.toml > $(NEWEST)/newest.txt
	$(VENV)/bin/uv pip install --quiet --python $(NEWEST) --override $(NEWEST)/newest.txt --group dev --requirements pyproject.toml
	$(VENV)/bin/uv pip install --quiet --python $(NEWEST) --no-deps --no-build-isolation --editable .
	$(VENV)/bin/uv pip freeze --quiet --python $(NEWEST) --exclude-editable > $(NEWEST)/installed.txt
	@echo "not as in requirements.lock:"; sed 's/ *;.*//' requirements.lock | grep -vxFf - $(NEWEST)/installed.txt || echo "nothing"
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -rfE $(NEWEST_TESTS)

clean:
	rm -rf $(VENV) runs build dist
