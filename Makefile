# Every target does its own set-up. The programs that it needs are found or
# built by tools/get (see docs/development.md); the shell lines stay short, and
# what is longer lives in scripts.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
.PHONY: help demo build test test-short tools check bench fuzz storm generate screenshots

export GOWORK := off
export PATH := $(CURDIR)/.tools/bin:$(PATH)

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT = $(shell git rev-parse HEAD 2>/dev/null)
GET = go run -C tools/get .

# Set on the command line: make demo ARGS=--keep, make test RACE=1, make tools PINNED=1, make fuzz FUZZTIME=5m, make storm SEED=7
ARGS =
RACE =
PINNED =
FUZZTIME = 10s
DURATION = 10m
REPLICAS = 3
KILLS = 200
SEED = 1
CLOCKS = 1

help:
	@echo 'make demo        a whole working installation: tags are pushed, real OpenTofu deploys, the board is printed'
	@echo 'make build       bin/waymark'
	@echo 'make test        all tests, with real engines, PostgreSQL, ssh and gpg; RACE=1 with the race detector'
	@echo 'make test-short  the tests that need nothing but Go and git'
	@echo 'make check       format, vet, staticcheck, tidy, known vulnerabilities, short tests with the race detector'
	@echo 'make bench       what Waymark adds to doing it by hand, as ratios, and every page over a million runs'
	@echo 'make storm       replicas under load are killed, stopped and cut off for $(DURATION), and nothing may be lost; SEED=7 for another storm'
	@echo 'make fuzz        every fuzz test for $(FUZZTIME); FUZZTIME=5m for longer'
	@echo 'make screenshots the pictures of the page in docs/screenshots, after a change of it'
	@echo 'make generate    the Go code of the page, after a change of its templates'
	@echo 'make tools       all programs that the above use, into .tools/bin; PINNED=1 builds those on PATH too'

demo:
	@$(GET) tofu tflint
	@$(MAKE) build
	@bin/waymark demo $(ARGS)

build:
	@test -x bin/waymark || echo 'building bin/waymark, which takes a few minutes the first time'
	@CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/waymark ./cmd/waymark

test:
	@scripts/system-packages.sh postgresql openssh-server openssh-client gnupg nodejs npm chromium
	@scripts/dynalite.sh || true # the tests that miss it fail, and name it
	@scripts/axe.sh || true # likewise
	@$(GET) $(if $(PINNED),-pinned) tofu terraform terraform-1.5 tflint terraform-provider-time
	@go test $(if $(RACE),-race) -count=1 -timeout 40m ./...

test-short:
	@go test -short ./...

tools:
	@$(GET) $(if $(PINNED),-pinned)

check:
	@$(GET) staticcheck govulncheck
	@scripts/check.sh

bench:
	@scripts/system-packages.sh postgresql
	@$(GET) tofu
	@go test -run '^$$' -bench . -benchtime 1x -timeout 40m ./internal/bench $(ARGS)

# After a change of page/*.templ. What it writes is kept beside them.
generate:
	@scripts/generate.sh

# From a world whose clock stands still; other fonts make other pictures.
screenshots:
	@scripts/system-packages.sh chromium
	@go test -count=1 -timeout 10m -run '^TestScreenshots$$' ./cmd/waymark -screenshots=$(CURDIR)/docs/screenshots

fuzz:
	@scripts/fuzz.sh $(FUZZTIME)

# A storm lasts longer than its faults: the last runs have to end. CLOCKS= leaves
# out clocks that differ, and the minutes that a build with them takes.
storm:
	@scripts/system-packages.sh postgresql
	@$(GET) tofu
	@go test -v -count=1 -timeout 0 -run '^TestStorm$$' ./internal/storm -storm.duration=$(DURATION) -storm.replicas=$(REPLICAS) \
		-storm.kills=$(KILLS) -storm.seed=$(SEED) $(if $(CLOCKS),-storm.clocks)
