#!/bin/sh
# Installs axe-core, which judges how accessible the page is, from npm into
# .tools/axe, as tools/axe/package-lock.json pins it. Nothing is done where that
# is there. No package's own script is run. Needs npm.
#
#   scripts/axe.sh
set -eu

cd "$(dirname "$0")/.."
to=.tools/axe

if [ -f $to/node_modules/axe-core/axe.min.js ] && cmp -s tools/axe/package-lock.json $to/package-lock.json; then
	exit 0
fi
if ! command -v npm >/dev/null; then
	echo "axe: npm is missing, so the tests that need axe-core will fail: install the package npm" >&2
	exit 1
fi
echo 'axe: installing axe-core from npm into .tools/axe, which takes some seconds'
mkdir -p .tools
new=$(mktemp -d .tools/axe-XXXXXX)
trap 'rm -rf "$new"' EXIT
cp tools/axe/package.json tools/axe/package-lock.json "$new"
begun=$(date +%s)
if ! said=$(cd "$new" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier 2>&1); then
	printf '%s\n' "$said" | tail -n 10 >&2
	echo 'axe: npm could not install it, so the tests that need axe-core will fail' >&2
	exit 1
fi
rm -rf $to
mv "$new" $to
chmod 755 $to # mktemp lets nobody else in
echo "axe: installed in $(($(date +%s) - begun)) s"
