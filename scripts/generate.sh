#!/bin/sh
# Writes the Go code of page/*.templ anew, beside them.
set -eu
cd "$(dirname "$0")/.."
go run -C tools/templ github.com/a-h/templ/cmd/templ generate -path "$PWD/page" >/dev/null 2>&1 || {
	echo "scripts/generate.sh: the templates of the page cannot be read:" >&2
	go run -C tools/templ github.com/a-h/templ/cmd/templ generate -path "$PWD/page" >&2
	exit 1
}
# Its remark for linters must not be taken for the package's comment.
for file in page/*_templ.go; do
	awk '/^package / && last != "" { print "" } { print; last = $0 }' "$file" >"$file.new"
	mv "$file.new" "$file"
done
