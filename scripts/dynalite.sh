#!/bin/sh
# Installs dynalite, the DynamoDB that tests use, from npm into .tools/dynalite,
# as tools/dynalite/package-lock.json pins it. Nothing is done where that is
# there. No package's own script is run. Needs node and npm.
#
#   scripts/dynalite.sh
set -eu

cd "$(dirname "$0")/.."
to=.tools/dynalite

if [ -f $to/node_modules/dynalite/index.js ] && cmp -s tools/dynalite/package-lock.json $to/package-lock.json; then
	exit 0
fi
for program in node npm; do
	if ! command -v $program >/dev/null; then
		echo "dynalite: $program is missing, so the tests that need DynamoDB will fail: install the packages nodejs and npm" >&2
		exit 1
	fi
done
echo 'dynalite: installing from npm into .tools/dynalite, which takes some seconds'
mkdir -p .tools
new=$(mktemp -d .tools/dynalite-XXXXXX)
trap 'rm -rf "$new"' EXIT
cp tools/dynalite/package.json tools/dynalite/package-lock.json "$new"
begun=$(date +%s)
if ! said=$(cd "$new" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier 2>&1); then
	printf '%s\n' "$said" | tail -n 10 >&2
	echo 'dynalite: npm could not install it, so the tests that need DynamoDB will fail' >&2
	exit 1
fi
rm -rf $to
mv "$new" $to
chmod 755 $to # mktemp lets nobody else in
echo "dynalite: installed in $(($(date +%s) - begun)) s"
