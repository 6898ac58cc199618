#!/bin/sh
# What make check runs, cheapest first; the first problem ends it.
set -eu

say() { printf 'check: %s\n' "$*"; }

say format
unformatted=$("$(go env GOROOT)/bin/gofmt" -l .)
if [ -n "$unformatted" ]; then
	say "not formatted; run gofmt -w on: $unformatted"
	exit 1
fi

say tidy
if ! difference=$(go mod tidy -diff 2>&1); then
	printf '%s\n' "$difference" | head -n 20
	say "go.mod and go.sum do not fit the code; run go mod tidy"
	exit 1
fi

say generated code
before=$(cat page/*_templ.go | cksum)
scripts/generate.sh
if [ "$before" != "$(cat page/*_templ.go | cksum)" ]; then
	say "page/*_templ.go did not fit page/*.templ; it was made anew, commit it"
	exit 1
fi

say vet
go vet ./...
go vet -C tools/get .

say staticcheck
staticcheck ./...
(cd tools/get && staticcheck .)

say known vulnerabilities
code=0
found=$(govulncheck ./... 2>&1) || code=$?
case "$code $found" in
"0 "*) ;;
*"fetching vulnerabilities"*) say "left out: the database of known vulnerabilities is not reachable from here" ;;
*)
	printf '%s\n' "$found"
	exit 1
	;;
esac

go test -C tools/get .
# The race detector needs cgo: building runtime/cgo proves a compiler and its headers.
if CGO_ENABLED=1 go build -race runtime/cgo 2>/dev/null; then
	say "short tests with the race detector"
	CGO_ENABLED=1 go test -race -short ./...
elif [ "${CI:-}" = true ]; then
	say "the race detector needs a C compiler, and CI must not do without: install the package gcc (and libc6-dev)"
	exit 1
else
	say "short tests WITHOUT the race detector, which needs a C compiler: install the package gcc (and libc6-dev)"
	go test -short ./...
fi
