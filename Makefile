# make setup | build | test | demo | lint | docs | install PREFIX=/usr/local

PREFIX ?= /usr/local
SWIFT ?= swift
# Downloads lie outside the tree; EGRESS_HOME says where.
MODEL = smollm2-135m-reader
EGRESS = .build/release/egress

.PHONY: help setup build fetch test demo lint docs install clean

help:
	@echo 'make setup    install what building needs'
	@echo 'make build    build the command line, optimised'
	@echo 'make test     set up, fetch the model, run all tests'
	@echo 'make demo     set up, fetch the model, summarise an example'
	@echo 'make lint     check the style'
	@echo 'make docs     write the pages of the libraries to .build/docs'
	@echo 'make install  put the program, its manual and completions under PREFIX ($(PREFIX))'

setup:
	@bash Scripts/setup.sh

build: setup
	$(SWIFT) build -c release --product egress

fetch: build
	@$(EGRESS) models pull $(MODEL) > /dev/null

test: setup fetch
	@SWIFT='$(SWIFT)' bash Scripts/test.sh

demo: fetch
	@echo
	@echo '$$ egress answer --cite --question "When did the mill close?" Examples/tide-mill.txt'
	@$(EGRESS) answer --cite --question 'When did the mill close?' Examples/tide-mill.txt
	@echo
	@echo '$$ egress summarize --words 40 Examples/tide-mill.txt'
	@$(EGRESS) summarize --words 40 Examples/tide-mill.txt

lint:
	$(SWIFT) format lint --strict -r Sources Tests Examples Package.swift
	@if command -v ruff > /dev/null; then ruff check . && ruff format --check .; \
	  else echo 'lint: no ruff (pip install ruff==0.17.6), so the Python is not looked at'; fi

# Warnings of DocC are errors. Comments and catalogues alone take part: what is built is not built again.
docs: build
	@SWIFT='$(SWIFT)' bash Scripts/docs.sh

# Statically linked with Swift's libraries, so that the program runs where no toolchain is.
install: setup
	$(SWIFT) build -c release --product egress --static-swift-stdlib --scratch-path .build-install
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -d $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 .build-install/release/egress $(DESTDIR)$(PREFIX)/bin/egress
	install -m 644 docs/egress.1 $(DESTDIR)$(PREFIX)/share/man/man1/egress.1
	for folder in drafts exits models; do install -d $(DESTDIR)$(PREFIX)/share/egress/$$folder || exit 1; done
	for file in $(wildcard Weights/drafts/*.safetensors Weights/drafts/*.json Weights/exits/*.safetensors \
	  Weights/exits/*.json Weights/models/*.gguf Weights/models/*.delta); do \
	  install -m 644 $$file $(DESTDIR)$(PREFIX)/share/egress/$$(basename $$(dirname $$file)) || exit 1; done
	.build-install/release/egress --generate-completion-script bash \
	  > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/egress
	.build-install/release/egress --generate-completion-script zsh \
	  > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_egress
	.build-install/release/egress --generate-completion-script fish \
	  > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/egress.fish

clean:
	rm -rf .build .build-install
