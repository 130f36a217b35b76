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

.PHONY: bench
bench: ## Measure what the README promises
	go run ./bench

.PHONY: generate
generate: ## Generate Go from the API's definition
	$(tool) buf generate

.PHONY: check-generate
check-generate: generate ## Fail if what is generated is not what is committed
	@git diff --exit-code -- proto
	@test -z "$$(git status --porcelain -- proto)" || { git status --short -- proto; exit 1; }
	@cmp third_party/protovalidate/buf/validate/validate.proto \
		"$$(go mod download -json $(protovalidate) | sed -n 's/^\t"Dir": "\(.*\)",/\1/p')/proto/protovalidate/buf/validate/validate.proto"

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

.PHONY: lint
lint: ## Run staticcheck and buf lint
	$(tool) staticcheck ./...
	$(tool) buf lint

.PHONY: breaking
breaking: ## Fail if the API has a change that breaks the clients of main
	$(tool) buf breaking proto --against '.git#branch=main,subdir=proto'

.PHONY: tidy
tidy: ## Fail if go.mod is not what go mod tidy would make it
	go mod tidy -diff
	cd tools && go mod tidy -diff

.PHONY: ci
ci: ## Run all that CI runs
	.ci/run
