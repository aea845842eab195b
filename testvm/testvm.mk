# Tests on real kernels. What machines start from is cached outside the repository
# ($SALLYPORT_TESTVM_CACHE); only the first run and testvm-fetch use the network.

# Packages whose tests run inside: those that touch the kernel. Of some a part is
# left to the host (testvm/internal/vm/selection.go); TESTVM_FLAGS=-all runs it too.
TESTVM_PACKAGES ?= ./testvm/selftest $(patsubst %,./%,$(wildcard \
	sandbox loader proxy internal/agent internal/audit internal/cgroup internal/keeper internal/e2e))
TESTVM_DEADLINE ?= 15m
TESTVM_FLAGS ?= -short

testvm_go = $(GO) run ./testvm/cmd/testvm
testvm_flags = -packages "$(strip $(TESTVM_PACKAGES))" -deadline $(TESTVM_DEADLINE) $(TESTVM_FLAGS)

.PHONY: bypasses testvm testvm-ci testvm-doc testvm-fetch testvm-harness testvm-packages vagrant-test vagrant-payload

testvm: testvm-harness ## every kernel and way of starting it, in virtual machines (first run: root, network)
	$(testvm_go) matrix $(testvm_flags)

# Runs from end to end, in every tier, by root and by an ordinary user; a hang ends early.
testvm-ci: TESTVM_PACKAGES := ./testvm/selftest ./internal/e2e
testvm-ci: TESTVM_DEADLINE := 6m
testvm-ci: ## the machines of every change: 6.1 and 6.12, plain
	$(testvm_go) matrix -ci $(testvm_flags)

testvm-doc: ## every kernel, and docs/kernels.md from what was found
	$(testvm_go) matrix $(testvm_flags) -doc docs/kernels.md

# What came of machines is kept for as long as the programs are the same: run again,
# it goes on. BYPASSES_FLAGS=-kept-only: this machine's own column, and what is kept.
BYPASSES_KEEP ?= bin/bypasses
BYPASSES_FLAGS ?=
bypasses: build need-test ## try the ways around on every kernel, and write docs/bypasses.md
	mkdir -p $(BYPASSES_KEEP)
	$(GO) test -c -o $(BYPASSES_KEEP)/e2e.test ./internal/e2e
	cd internal/e2e && SALLYPORT_BIN=$(CURDIR)/bin/sallyport $(abspath $(BYPASSES_KEEP))/e2e.test -test.run 'TestBypass' -test.v=test2json >$(abspath $(BYPASSES_KEEP))/host.txt
	$(testvm_go) bypasses -short -deadline 15m $(BYPASSES_FLAGS) -keep $(BYPASSES_KEEP) -host $(BYPASSES_KEEP)/host.txt -doc docs/bypasses.md

testvm-fetch: ## resolve the newest kernels; FULL=1: build the boxes too
	$(testvm_go) fetch $(if $(FULL),-boxes)

# Failures, hangs and panics inside have to be seen outside: the harness's own tests.
testvm-harness:
	SALLYPORT_TESTVM_BOOT=1 $(GO) test -count=1 -timeout 30m -run Boot ./testvm

testvm-packages: dist ## the Debian package on fresh Debian 12 and 13: install, upgrade, purge
	$(testvm_go) packages -deadline $(TESTVM_DEADLINE) -deb $$(ls $(CURDIR)/dist/*_amd64.deb)

vagrant-test: ## the tests on Debian 12 through Vagrant; FULL=1: 11 and 13 too
	$(testvm_go) vagrant $(testvm_flags) $(if $(FULL),-full)

vagrant-payload: ## compile the tests for the Vagrantfile
	rm -rf bin/testvm-payload
	$(testvm_go) payload $(testvm_flags) bin/testvm-payload
