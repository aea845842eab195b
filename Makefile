# 'make' builds ./bin/sallyport. 'make help' lists the rest.
.DEFAULT_GOAL := build

GO      ?= go
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# A static binary: the stages of a sandbox run where no library is in reach.
export CGO_ENABLED = 0

# Where AppArmor lets only named programs make user namespaces (Ubuntu since
# 23.10), what runs is the binary that its profile names.
RESTRICTED := $(shell cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)
UID        := $(shell id -u)
SUDO       := $(if $(filter 0,$(UID)),,sudo)
ifeq ($(RESTRICTED),1)
APPARMOR := apparmor
BINARY   := /usr/local/bin/sallyport
else
BINARY   := $(CURDIR)/bin/sallyport
endif

.PHONY: build
build: ## build ./bin/sallyport, static and stamped with its version
	$(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/...

.PHONY: try
try: build need-try $(APPARMOR) ## see it work on this machine; needs no internet, leaves nothing behind
	$(GO) build -buildvcs=false -o bin/try ./internal/try
	$(if $(APPARMOR),$(SUDO)) bin/try -bin $(BINARY)

.PHONY: need-try
need-try:
	.ci/need bwrap=bubblewrap curl=curl

GOTEST := $(if $(APPARMOR),SALLYPORT_BIN=$(BINARY)) $(GO) test -timeout 15m

# The packages whose tests make user namespaces by themselves.
NAMESPACED := ./sandbox/... ./internal/e2e/... ./internal/audit/...

.PHONY: test
test: build need-test $(APPARMOR) ## install what the tests need, and run them all
ifeq ($(RESTRICTED):$(SUDO),1:sudo)
	@echo "skipped: $(NAMESPACED): AppArmor keeps test programs from making user namespaces; 'sudo make test' runs them"
	$(GOTEST) $(filter-out $(shell $(GO) list $(NAMESPACED)),$(shell $(GO) list ./...))
else
	$(GOTEST) ./...
endif

.PHONY: test-full
test-full: build need-test $(APPARMOR) ## the end-to-end tests, the long ones too: some 20 minutes, tsx from npm, PostgreSQL
	.ci/need npm=npm initdb=postgresql prometheus=prometheus rsyslogd=rsyslog # these two open ports where a service manager starts them
	dir=$$(mktemp -d /var/tmp/sallyport-full-XXXXXX) && trap 'rm -rf "$$dir"' EXIT && chmod 755 "$$dir" && \
	npm install --silent --no-audit --no-fund --prefix "$$dir" tsx >/dev/null && \
	$(GO) build -C internal/otlp/testdata/collector -o "$$dir/collector" . && \
	SALLYPORT_COLLECTOR="$$dir/collector" SALLYPORT_E2E_LONG=1 SALLYPORT_TSX="$$dir/node_modules/.bin/tsx" $(GOTEST) -timeout 90m -v ./internal/e2e/... ./internal/export/... ./internal/otlp/... ./metrics/...

.PHONY: test-e2e
test-e2e: build need-test $(APPARMOR) ## the end-to-end tests alone
	$(GOTEST) ./internal/e2e/...

CRASHES ?= 200

.PHONY: crashes
crashes: build need-test $(APPARMOR) ## kill the parts of a run at CRASHES (200) random moments
	SALLYPORT_CRASHES=$(CRASHES) $(GOTEST) -v -run TestACrashAtAnyMomentEndsEverything ./internal/e2e/

# Not openssh-server: installing it opens a port. Its test is skipped without.
.PHONY: need-test
need-test:
	.ci/need bwrap=bubblewrap nft=nftables ip=iproute2 curl=curl git=git python3=python3 node=nodejs \
		ssh=openssh-client strace=strace keyctl=keyutils vi=vim-tiny less=less top=procps script=bsdutils \
		tmux=tmux gpg=gpg gpg-agent=gpg-agent dbus-daemon=dbus

.PHONY: test-clients
test-clients: build need-clients $(APPARMOR) ## real clients and package managers, those that take their time too
	SALLYPORT_CLIENTS=1 $(GOTEST) -count=1 -v -run 'Clients|PackageManagers|PythonLibraries|Real(Redis|PostgreSQL)' ./internal/e2e ./proxy

# Not redis-server, nor postgresql: installing it opens a port. Its test is
# skipped without.
.PHONY: need-clients
need-clients: need-test
	.ci/need npm=npm mvn=maven javac=default-jdk-headless psql=postgresql-client redis-cli=redis-tools pip3=python3-pip \
		wget=wget requests=python3-requests httpx=python3-httpx aiohttp=python3-aiohttp \
		cargo=cargo reqwest=librust-reqwest-dev

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: lint
lint: ## gofmt and staticcheck; go vet and go build for every system that it is built for
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt: $$files" >&2; exit 1; }
	for os in linux darwin; do for arch in amd64 arm64; do \
		GOOS=$$os GOARCH=$$arch $(GO) vet ./... && \
		GOOS=$$os GOARCH=$$arch $(GO) build -buildvcs=false -o /dev/null ./cmd/... || exit 1; done; done
	$(GO) vet -tags man ./cmd/...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod verify
	$(GO) mod tidy -diff

BENCH     ?= .
BENCHTIME ?= 1s
BENCHPKG  ?= ./...
# Connections, and MiB that are sent, through a sandbox, a bare relay and srt.
FIGURES   ?= 5000 1024

.PHONY: bench
bench: build need-bench $(APPARMOR) ## measure; a run against bare bubblewrap and against srt (from npm)
	dir=$$(mktemp -d /var/tmp/sallyport-bench-XXXXXX) && trap 'rm -rf "$$dir"' EXIT && chmod 755 "$$dir" && \
	npm install --silent --no-audit --no-fund --prefix "$$dir" @anthropic-ai/sandbox-runtime@0.0.83 >/dev/null && \
	SALLYPORT_SRT="$$dir/node_modules/.bin/srt" $(if $(APPARMOR),SALLYPORT_BIN=$(BINARY)) \
	sh -c '$(GO) test -run "^$$" -bench "$(BENCH)" -benchtime $(BENCHTIME) $(BENCHPKG) && \
		SALLYPORT_FIGURES="$(FIGURES)" $(GO) test -count=1 -v -run TestFigures ./internal/e2e'

.PHONY: need-bench
need-bench: need-test
	.ci/need npm=npm socat=socat rg=ripgrep

FUZZTIME ?= 1m
FUZZPKG  ?= ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (1m)
	for pkg in $$($(GO) list $(FUZZPKG)); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

.PHONY: dist
dist: ## make a release in dist/: binaries, archives, packages, bills of materials
	GOBIN=$(CURDIR)/bin $(GO) install $(NFPM)
	$(GO) run ./internal/dist -version $(VERSION) -nfpm bin/nfpm

# The second build has a place and a cache of its own.
.PHONY: dist-check
dist-check: dist ## see that a release can be made again, and its package be removed without a trace
	dir=$$(mktemp -d /var/tmp/sallyport-dist-XXXXXX) && trap 'chmod -R u+w "$$dir"; rm -rf "$$dir"' EXIT && \
	git clone -q . "$$dir/src" && (cd "$$dir/src" && \
		GOCACHE="$$dir/cache" $(GO) run ./internal/dist -version $(VERSION) -nfpm $(CURDIR)/bin/nfpm) && \
	diff -r dist "$$dir/src/dist"
	$(if $(filter 0,$(UID)),SALLYPORT_DEB=$$(ls $(CURDIR)/dist/*$$($(GO) env GOARCH).deb)) $(GO) test -count=1 -v ./internal/dist

.PHONY: install
install: build ## install to PREFIX (/usr/local), below DESTDIR
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin bin/sallyport bin/sallyport-agent

.PHONY: apparmor
apparmor: build ## install to /usr/local with the AppArmor profile that Ubuntu needs
	$(SUDO) install -D -m 755 -t /usr/local/bin bin/sallyport bin/sallyport-agent
	$(SUDO) install -D -m 644 sandbox/apparmor/sallyport /etc/apparmor.d/sallyport
	$(SUDO) apparmor_parser --replace /etc/apparmor.d/sallyport

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

-include testvm/testvm.mk
-include bpf/bpf.mk
