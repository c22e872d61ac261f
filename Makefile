# make demo   the whole lab on a ready-made photo set: installs, trains, writes the report
# make test   format, lint, types, layers, tests
# make bench  Keras, fastai, plain torch and this, side by side: two hours, 5 GB of environments, needs `make demo`
PYTHON ?= python3
UV ?= $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
PHOTOS := solar-cells/photos
CIFAR := hub

.PHONY: demo test bench constraints clean

demo: $(VENV)/demo.done
	$(BIN)/stockpot demo solar-cells
	@echo "The report: $(CURDIR)/solar-cells/report.html"

test: $(VENV)/dev.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

# Other photos: make bench PHOTOS=folder-of-class-folders CIFAR=folder
bench: $(VENV)/dev.done
	$(BIN)/python benchmarks/rivals/compare.py "$(PHOTOS)" benchmarks/rivals/made "$(CIFAR)"
	@echo "The figures: $(CURDIR)/benchmarks/rivals/made/figures.json"

# Installs the package with an extra, by uv where it is present, else by pip.
$(VENV)/%.done: pyproject.toml constraints.txt
ifneq ($(UV),)
	test -x $(BIN)/python || $(UV) venv --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(BIN)/python --compile-bytecode --torch-backend=auto -c constraints.txt -e '.[$*]' \
	  || $(UV) pip install --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[$*]'
else
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
endif
	touch $@

# Needs uv. torch and what belongs to it is left out: the right build depends on the machine.
constraints:
	echo '# Versions that are known to work together. Made by: make constraints' > constraints.txt
	$(UV) pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate -q pyproject.toml \
	  | grep -v -E '^(torch|torchvision|nvidia-|cuda-|triton|setuptools)' >> constraints.txt

clean:
	rm -rf $(VENV) solar-cells
