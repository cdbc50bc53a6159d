# make install   a virtual environment in .venv with both packages and everything they need
# make demo      the whole path on a small data set: data, clip model, PGT, test, table, plot
# make demo-data the same on small sets in the formats of Kinetics, Charades, AVA and Something-Something V2
# make bench     every method for long videos on a tiny set, and a check that memory helps; make bench-full: the figures, for hours
# make test      every test; make lint: style and format
# make docs      the documentation as a site in build/docs, searchable and without a network; installs an extra
# make serve     a page in the browser: sample videos, your own, and your camera, with the shipped models
# make fuzz      damaged and odd files to every reader for SECONDS=60; status 2 and the files of findings if there are any
# make test-torchcodec  the tests of the second video decoder, an extra, which it installs
PYTHON ?= python3
VENV ?= .venv
# What pip is given for PyTorch; INSTALL.md says which to choose for a GPU.
TORCH ?= torch==2.13.0
# Extras of pyproject.toml to install with it.
EXTRAS ?= test,plot,web,dev
# Processes that share the tests, file by file in the order of folders, which puts long files first; 0 runs them in one.
WORKERS ?= 2
# Time of make fuzz, and the seed of its cases.
SECONDS ?= 60
SEED ?= 0

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo demo-full demo-data bench bench-full serve test docs fuzz test-torchcodec lint format clean distclean

install: $(STAMP)

$(STAMP): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	  echo "Name another one: make install PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet 'pip>=23'
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable '.[$(EXTRAS)]'
	@touch $@

demo: install
	$(BIN)/python demo/sweep.py

demo-full: install
	$(BIN)/python demo/sweep.py --full

demo-data: install
	$(BIN)/python demo/data.py

# Nothing is learned on tiny, where every part runs; sweep shows in minutes that memory helps.
bench: install
	$(BIN)/python demo/long_video.py --set tiny --seconds 0 --seeds 0 --results runs/long-video/bench
	$(BIN)/python demo/long_video.py --set sweep --backbones slow --seconds 180 --seeds 0 \
	  --methods pgt_max memory_off --results runs/long-video/bench --check

# Runs only what the committed results lack.
bench-full: install
	$(BIN)/python demo/long_video.py --set small
	$(BIN)/python demo/long_video.py --set still --methods pgt_max memory_off clip
	$(BIN)/python demo/long_video.py --set moving --methods pgt_max memory_off clip end_to_end
	$(BIN)/python demo/long_video.py --set order --methods pgt_max memory_off clip end_to_end
	$(BIN)/python demo/long_video.py --set sweep

serve: install
	$(BIN)/python tools/serve.py --checkpoint zoo://sweep_pgt_36x1 --checkpoint zoo://sweep_slow_8x1

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15 -m 'not processes'
	$(BIN)/python -m pytest --durations=15 -m processes

# A warning is an error: of a link that leads nowhere, a page that no other leads to, a module that cannot be imported.
docs: install
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/docs
	@echo build/docs/index.html

fuzz: install
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

# Checked first, since tests of a decoder that does not load are skipped.
test-torchcodec: install
	$(BIN)/python -m pip install --editable '.[torchcodec]'
	$(BIN)/python -c 'from slowfast.datasets.video.torchcodec import TorchCodecReader; TorchCodecReader.require()'
	$(BIN)/python -m pytest -m torchcodec

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
