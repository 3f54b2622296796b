# Needs Go, git, make and a C compiler (for the race detector), nothing else.
# What else is used comes from the Go module proxy.

GOLANGCI_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
GOLANGCI := bin/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
APIDIFF_VERSION := v0.0.0-20261014143641-f0251eb4aa3e
APIDIFF := bin/apidiff-$(APIDIFF_VERSION)/apidiff
NILAWAY_VERSION := v0.0.0-20260918162853-acb8859b9031
NILAWAY := bin/nilaway-$(NILAWAY_VERSION)/nilaway

FUZZTIME  ?= 20s
BENCH     ?=
SYSTEMS   ?=
ROUNDS    ?= 5
PROFILES  ?=
MATCH     ?= .
BENCHTIME ?= 1s
COUNT     ?= 1
SEED      ?= 1
SEEDS     ?= 10
HOURS     ?= 1
CPUS      ?=
STARS     ?= 0
TIME      ?= 3m
CHAOS     ?=
MUTANT    ?=
TAGS      ?=
COVERAGE  := 85
# What is measured together is what the tests of the root, its rooms and tests/ run.
ROOMS     := asyncwrites callback conn fair groups health latency listener member pipeline postlimit probe protocol queue receive rota routing snapshot stream
COVERED   := .$(subst $() ,,$(ROOMS:%=,./internal/%))=.,./internal/...,./tests/... ./internal/wire ./snap
# The modules that are released: in the others, and in tests, nilaway takes too much
# for nil that is not.
NILCHECKED := . metrics

.DEFAULT_GOAL := help
.PHONY: help demo test lint vulncheck cover fuzz bench bench-check bench-growth microbench sim sim-groups promise chaos mutants shrink compat-etcd clean needs-go needs-cc

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: needs-go ## run a raft cluster through its whole life on this machine
	cd examples/kv && go build -buildvcs=false -o ../../bin/kv .
	bin/kv demo

test: needs-go needs-cc ## run all tests of all modules, those of the library with the race detector
	tools/test -race -shuffle=on -timeout 30m

lint: needs-go $(GOLANGCI) $(NILAWAY) $(APIDIFF) ## check formatting, go vet, golangci-lint, nilaway, and the API against the last version
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$bad" ]; then echo "not formatted; run gofmt -w on:"; echo "$$bad"; exit 1; fi
	@failed=; for dir in $$(tools/modules); do \
		echo "--- $$dir: go vet, golangci-lint"; \
		(cd $$dir && go vet ./... && "$(CURDIR)/$(GOLANGCI)" run --allow-parallel-runners --config "$(CURDIR)/.golangci.yml" ./...) || failed="$$failed $$dir"; \
	done; if [ -n "$$failed" ]; then echo "lint failed in:$$failed"; exit 1; fi
	@echo "--- .: go vet, where an int has 32 bits"; GOARCH=386 CGO_ENABLED=0 go vet ./...
	@failed=; for dir in $(NILCHECKED); do \
		echo "--- $$dir: nilaway"; \
		(cd $$dir && "$(CURDIR)/$(NILAWAY)" -test=false -pretty-print=false -include-pkgs="$$(go list -m)" ./...) || failed="$$failed $$dir"; \
	done; if [ -n "$$failed" ]; then echo "nilaway failed in:$$failed"; exit 1; fi
	@tools/apidiff "$(CURDIR)/$(APIDIFF)"

vulncheck: needs-go ## look for known vulnerabilities in what is used; needs https://vuln.go.dev
	@failed=; for dir in $$(tools/modules); do \
		echo "--- $$dir: govulncheck"; \
		(cd $$dir && go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...) || failed="$$failed $$dir"; \
	done; if [ -n "$$failed" ]; then echo "govulncheck failed in:$$failed"; exit 1; fi

cover: needs-go ## measure the coverage of the library's packages; fails below 85 %
	tools/cover $(COVERAGE) $(COVERED)

fuzz: needs-go ## run each fuzz target for FUZZTIME (20s)
	tools/fuzz $(FUZZTIME)

bench: bin/bench ## measure side by side with others: BENCH=A,D,slow SYSTEMS=ours,upstream ROUNDS=5 PROFILES=dir
	bin/bench -scenarios '$(BENCH)' -systems '$(SYSTEMS)' -rounds $(ROUNDS) -disk bin -profiles '$(PROFILES)' $(if $(BENCH)$(SYSTEMS),,-out bench/results)

bench-check: bin/bench ## the same, and fail where this transport misses what it promises against the others
	bin/bench -scenarios '$(BENCH)' -systems '$(SYSTEMS)' -rounds $(ROUNDS) -disk bin -check

bench-growth: bin/bench ## measure while peers, sizes and processors grow, for docs/performance.md; BENCH=peers,size
	bin/bench -growth -scenarios '$(BENCH)' -rounds $(ROUNDS) $(if $(BENCH),,-out bench/results)

bin/bench: needs-go FORCE
	cd bench && go build -buildvcs=false -o ../bin/bench .

FORCE:

microbench: needs-go ## run the go test benchmarks that match MATCH (.), for BENCHTIME (1s), COUNT (1) times
	tools/test -run '^$$' -bench '$(MATCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT)

sim: needs-go ## simulate clusters under faults, HOURS (1) for each of SEEDS (10) seeds from SEED (1) on; CPUS=1 is cheaper
	cd chaos && go test ./sim -run TestSimulation -v -timeout 0 $(if $(CPUS),-cpu $(CPUS)) -seed $(SEED) -seeds $(SEEDS) -hours $(HOURS)

sim-groups: needs-go ## simulate 50 raft groups that share Transports under faults, HOURS (1) for each of SEEDS (10) seeds from SEED (1) on
	cd chaos && go test ./groups -run TestGroups -v -timeout 0 $(if $(CPUS),-cpu $(CPUS)) -seed $(SEED) -seeds $(SEEDS) -hours $(HOURS)

promise: needs-go ## simulate what transports promise, without raft: SEEDS (10) seeds from SEED (1) on, STARS (0) of 200 peers, TAGS=faultpoints, ON='raft groups' for plans with that dimension
	cd chaos && go test ./promise -tags '$(TAGS)' -run TestPromises -v -timeout 0 $(if $(CPUS),-cpu $(CPUS)) -seed $(SEED) -seeds $(SEEDS) -stars $(STARS) $(if $(ON),-on '$(ON)') -shrink

chaos: needs-go ## run a cluster of processes under faults and check what clients see, for TIME (3m), from SEED (any); CHAOS=-groups: with 50 raft groups
	cd chaos && go build -buildvcs=false -o ../bin/chaos .
	cd chaos && ../bin/chaos -time $(TIME) -seed $(if $(filter command environment,$(firstword $(origin SEED))),$(SEED),0) $(CHAOS)

mutants: needs-go ## hold the simulation of the promises to wrong libraries: each must be noticed; MUTANT=name for one of them
	cd chaos && go run ./mutants -mutant '$(MUTANT)' $(if $(MUTANT),-v,-write ../docs/reliability.md)

shrink: needs-go ## cut a failure of each judge of the promises to ten lines at most, with a wrong library each; MUTANT=name for one
	cd chaos && go run ./mutants -shrink -mutant '$(MUTANT)' -seeds 200 -timeout 30m

compat-etcd: needs-go ## run real etcd servers, stock and on this transport, as one cluster
	cd compat/etcdswap && go run .

clean: ## remove what the other targets have built
	rm -rf bin

$(GOLANGCI):
	@echo "installing golangci-lint $(GOLANGCI_VERSION) into $(@D): this takes some minutes, once"
	GOBIN="$(CURDIR)/$(@D)" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(NILAWAY):
	GOBIN="$(CURDIR)/$(@D)" go install go.uber.org/nilaway/cmd/nilaway@$(NILAWAY_VERSION)

$(APIDIFF):
	GOBIN="$(CURDIR)/$(@D)" go install golang.org/x/exp/cmd/apidiff@$(APIDIFF_VERSION)

needs-go:
	@command -v go >/dev/null || { echo "Go is missing: install 1.26 or newer from https://go.dev/dl/"; exit 1; }

needs-cc:
	@[ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null || \
		{ echo "the race detector needs a C compiler: install gcc, and do not set CGO_ENABLED=0"; exit 1; }
