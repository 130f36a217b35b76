# What a contributor runs. The tools are pinned in tools/go.mod and run as they
# are built from there, so nothing needs to be installed.
tool := go tool -modfile=tools/go.mod
protovalidate := github.com/bufbuild/protovalidate@v1.2.2

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## Show a whole round of inspections, then keep serving it
	go run ./server demo

.PHONY: test
test: ## Run the tests
	go test ./...

.PHONY: race
race: ## Run the tests with the race detector
	go test -race ./...

CUTS ?= 200
KILLS ?= 100
seed = $(if $(SEED),-seed $(SEED))

.PHONY: powercut
powercut: ## Cut a server's power CUTS times and look for all that it had acknowledged
	go -C tools/powercut run . -cuts $(CUTS) $(seed)

.PHONY: powercut-notices
powercut-notices: ## Fail if the same goes well where a flush of the disk does nothing
	go -C tools/powercut run . -cuts 40 -want-loss -ignore-fsync files $(seed)
	go -C tools/powercut run . -cuts 40 -want-loss -ignore-fsync folders $(seed)

.PHONY: kill
kill: ## Kill a server KILLS times and look for all that it had acknowledged
	go -C tools/powercut run . -kills $(KILLS) $(seed)

.PHONY: bench
bench: ## Measure what docs/measured.md promises
	go run ./bench

FOR ?= 5m

.PHONY: hostile
hostile: ## Let 1,000 connections without a token attack a server for FOR, and judge its memory and who is served
	go run ./bench -scale hostile -for $(FOR) -strict

.PHONY: generate
generate: ## Generate Go from the API's definition
	go mod download $(protovalidate)
	dir=$$(go list -m -f '{{.Dir}}' $(protovalidate)) && cd third_party/protovalidate && \
		install -m 644 $$dir/LICENSE . && \
		install -m 644 $$dir/proto/protovalidate/buf/validate/validate.proto buf/validate
	$(tool) buf build
	find proto -name '*.pb.go' -delete # what has no .proto any more must go
	$(tool) buf generate

.PHONY: check-generate
check-generate: generate ## Fail if what is generated is not what is committed or staged
	git diff --exit-code -- proto third_party
	@new=$$(git ls-files --others --exclude-standard -- proto third_party); \
		test -z "$$new" || { echo "not committed: $$new"; exit 1; }

.PHONY: fmt
fmt: ## Format the Go code and the API's definition
	gofmt -w .
	$(tool) buf format -w proto

.PHONY: check-fmt
check-fmt: ## Fail if something is not formatted
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(tool) buf format -d --exit-code proto

.PHONY: vet
vet: ## Run go vet
	go vet ./...
	go -C tools/fakemongo vet ./...
	go -C tools/ferretdb vet ./...
	go -C tools/oidcprovider vet ./...
	go -C tools/powercut vet ./...

.PHONY: systems
systems: ## Build and vet for the other systems that a server may run on
	@for s in linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do \
		echo "go build and go vet for $$s"; \
		export CGO_ENABLED=0 GOOS=$${s%/*} GOARCH=$${s#*/}; \
		go build ./... && go vet ./... || exit 1; \
	done

.PHONY: lint
lint: ## Run staticcheck and buf lint
	$(tool) staticcheck ./...
	$(tool) buf lint

.PHONY: breaking
breaking: ## Fail if the API has a change that breaks the clients of the last release
	$(tool) buf breaking proto --against proto/released.binpb

.PHONY: release-api
release-api: ## Make the API of today the released one, which make breaking compares with
	$(tool) buf build proto --exclude-source-info -o proto/released.binpb

.PHONY: tidy
tidy: ## Fail if a go.mod is not what go mod tidy would make it
	@for m in $$(git ls-files go.mod '*/go.mod'); do \
		echo "go -C $$(dirname $$m) mod tidy -diff"; \
		go -C $$(dirname $$m) mod tidy -diff || exit 1; \
	done

.PHONY: ci
ci: ## Run all that CI runs
	.ci/run
