# promkeep. "make help" lists the targets.

GO ?= go

# What "promkeep --version" says. Empty outside of a git checkout, as in a source archive.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
# The commit's date, so that the same source gives the same binary.
DATE     ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d-%H:%M:%S 2>/dev/null)

VERSION_PKG := github.com/prometheus/common/version
LDFLAGS := -s -w \
	-X $(VERSION_PKG).Version=$(VERSION) \
	-X $(VERSION_PKG).Revision=$(REVISION) \
	-X $(VERSION_PKG).Branch=$(BRANCH) \
	-X $(VERSION_PKG).BuildDate=$(DATE)

# Arguments of "make run", such as RUN_ARGS="--web.listen-address=127.0.0.1:9201".
DATA_DIR ?= data
RUN_ARGS ?=

# What the tests run: TEST_ARGS="-run TestName -v", PACKAGES=./storage/... and so on.
PACKAGES     ?= ./...
TEST_ARGS    ?=
TEST_TIMEOUT ?= 30m
# How many packages are tested at the same time: more than there are CPUs, since many tests wait for servers, and those that take longest first, so
# that none is left alone in the end.
TEST_PACKAGES_AT_ONCE ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n + (n + 1) / 2)))
TEST_FIRST            := $(if $(filter ./...,$(PACKAGES)),./storage ./promql ./cmd/app)
# Packages that are also tested under the race detector, which takes several times as long: those in which something runs at the same time. In
# adapter/wire, storage/codec and storage/series nothing does, in storage/sqltest only SQL does. Empty for none. It needs a C compiler.
RACE_PACKAGES ?= ./storage ./adapter ./adapter/tenancy ./storage/chunks ./storage/head ./storage/pgtest ./storage/postgres ./storage/samplelog
HAVE_CC       := $(shell command -v gcc || command -v clang || command -v cc)
BENCH      ?= .
BENCH_ARGS ?= -benchmem
# Flags of "promkeep bench ingest", "promkeep bench storage" and "promkeep bench query".
BENCH_FLAGS ?=

GO_FILES = git ls-files --cached --others --exclude-standard '*.go'

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

.PHONY: build
build: ## build bin/promkeep
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/promkeep ./cmd/promkeep

.PHONY: run
run: deps-run build ## run promkeep with a PostgreSQL of its own in data/, on http://localhost:9201
	bin/promkeep serve --data-dir $(DATA_DIR) $(RUN_ARGS)

.PHONY: demo
demo: deps-test build ## run promkeep with two Prometheus servers writing to it, until Ctrl-C
	deploy/demo.sh

# The Prometheus that tests and "make bench" compare with, of the release that promkeep's engine is from.
PEER_PROMETHEUS := bin/peers/prometheus
PEER_MODULE     := github.com/prometheus/prometheus
PEER_VERSION     = $(shell sed -n 's|^require $(PEER_MODULE) ||p' .ci/peers/go.mod)

$(PEER_PROMETHEUS): .ci/peers/go.mod .ci/peers/go.sum
	cd .ci/peers && CGO_ENABLED=0 $(GO) build -buildvcs=false -tags remove_all_sd \
		-ldflags '-s -w -X $(VERSION_PKG).Version=$(PEER_VERSION)' -o ../../$@ $(PEER_MODULE)/cmd/prometheus

# It is built once in a clone, and only for tests that want it.
NEED_PEER := $(if $(filter ./... ./promql ./promql/...,$(PACKAGES)),$(PEER_PROMETHEUS))
test differential: export PROMKEEP_TEST_PROMETHEUS = $(abspath $(NEED_PEER))

.PHONY: test
test: deps-test deps-newest $(NEED_PEER) ## run all tests, some of them again under the race detector
	$(GO) test -p $(TEST_PACKAGES_AT_ONCE) -timeout $(TEST_TIMEOUT) $(TEST_ARGS) $(TEST_FIRST) $(PACKAGES)
	$(MAKE) --no-print-directory fuzz
	@# What it does with unsafe.Pointer, which the race detector checks elsewhere.
	$(GO) test -gcflags=-d=checkptr -short -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./storage/head ./storage/codec
ifeq ($(HAVE_CC),)
	@echo "No C compiler: the race detector is left out"
else ifneq ($(strip $(RACE_PACKAGES)),)
	CGO_ENABLED=1 $(GO) test -p $(TEST_PACKAGES_AT_ONCE) -race -vet=off -short -timeout $(TEST_TIMEOUT) $(TEST_ARGS) $(RACE_PACKAGES)
endif

# How long each fuzz target of the decoders runs: so many inputs, or a time such as 10m. At the end of a time a busy machine may fail what found
# nothing, with "context deadline exceeded" (golang/go#75804).
FUZZ_TIME ?= 10000x

.PHONY: fuzz
fuzz: ## let random requests into the remote-write decoders (FUZZ_TIME=10m)
	for target in FuzzV1 FuzzV2; do \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./adapter/wire || exit 1; \
	done

.PHONY: test-short
test-short: deps-test ## run the tests without the long ones, on one PostgreSQL
	$(GO) test -short -timeout $(TEST_TIMEOUT) $(TEST_ARGS) $(PACKAGES)

# Another seed each time, unless one is given.
SEED    ?= $(shell date +%s)
QUERIES ?= 100000

.PHONY: differential
differential: deps-test $(PEER_PROMETHEUS) ## compare many generated queries with a real Prometheus (SEED=1 QUERIES=100000)
	$(GO) test -run '^TestDifferential' -v -timeout 24h ./promql -differential.seed=$(SEED) \
		-differential.queries=$(QUERIES) -peer.queries=$(QUERIES)

.PHONY: bench-go
bench-go: deps-test ## run the Go benchmarks (BENCH=regexp, PACKAGES=./storage/...)
	$(GO) test -run '^$$' -bench '$(BENCH)' $(BENCH_ARGS) -timeout $(TEST_TIMEOUT) $(PACKAGES)

.PHONY: test-charts
test-charts: deps-test ## test the Helm chart, the image, the compose file and the alerts
	cd charts/tests && $(GO) vet . && $(GO) test -timeout $(TEST_TIMEOUT) $(TEST_ARGS) .

.PHONY: release
release: ## build the archives of a release into dist/
	GO=$(GO) deploy/release.sh $(VERSION)

.PHONY: bench
bench: deps-bench build $(PEER_PROMETHEUS) ## measure remote write into promkeep, VictoriaMetrics and Prometheus (BENCH_FLAGS="--scale=0.1")
	bin/promkeep bench ingest --prometheus $(PEER_PROMETHEUS) $(BENCH_FLAGS)

.PHONY: bench-storage
bench-storage: deps-bench build ## measure what the same samples take on disk in promkeep and VictoriaMetrics (BENCH_FLAGS="--hours=24")
	bin/promkeep bench storage $(BENCH_FLAGS)

.PHONY: bench-query
bench-query: deps-bench build $(PEER_PROMETHEUS) ## compare dashboard queries of promkeep, VictoriaMetrics and Prometheus (BENCH_FLAGS="--range=hour")
	bin/promkeep bench query --prometheus $(PEER_PROMETHEUS) $(BENCH_FLAGS)

.PHONY: fmt
fmt: ## format the Go files
	$(GO_FILES) | xargs gofmt -s -w

.PHONY: fmt-check
fmt-check: # list the Go files that are not formatted, and fail if there are any
	@files=$$($(GO_FILES) | xargs gofmt -s -l) && { [ -z "$$files" ] || { echo "not formatted (make fmt):"; echo "$$files"; exit 1; }; }

.PHONY: vet
vet: ## run go vet
	# Prometheus' iterators have a Seek that is not io.Seeker's.
	$(GO) vet -stdmethods=false $(PACKAGES)

.PHONY: lint
lint: ## run staticcheck, of the version pinned in .ci/tools
	$(GO) tool -modfile=.ci/tools/go.mod staticcheck $(PACKAGES)

.PHONY: deps-run
deps-run: ## install a PostgreSQL server if there is none
	@.ci/deps run

.PHONY: deps-test
deps-test: ## install PostgreSQL and Prometheus if they are missing
	@.ci/deps test

.PHONY: deps-newest
deps-newest: ## get the newest PostgreSQL for the tests, from npm
	@.ci/deps newest

.PHONY: deps-bench
deps-bench: ## install PostgreSQL and VictoriaMetrics if they are missing
	@.ci/deps bench

.PHONY: deps
deps: deps-test deps-newest # what failing tests ask for

.PHONY: clean
clean: ## remove what was built (not data/)
	rm -rf bin dist
