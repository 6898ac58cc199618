#!/bin/sh
# Records real runs of trivy for the tests of package gates, which replay them:
# it is too big to be built wherever they run.
#
#   go run -C tools/get . trivy && scripts/record-trivy.sh
#
# Each case is a folder of gates/testdata/trivy: its tree is scanned as the gate
# scans one, without network, and stdout, stderr and meta.json are written beside it.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
trivy=${TRIVY:-$root/.tools/bin/trivy}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for case in "$root"/gates/testdata/trivy/*/; do
	name=$(basename "$case")
	rm -rf "$work/scan" "$work/scratch"
	mkdir -p "$work/scan" "$work/scratch"
	case $name in
	examples) cp -R "$root/examples/." "$work/scan" ;;
	quickstart) cp -R "$root/examples/quickstart/." "$work/scan" ;;
	err-missing) rmdir "$work/scan" ;;
	empty) ;;
	*) cp -R "$case/tree/." "$work/scan" ;;
	esac
	more=
	[ ! -d "$case/checks" ] || more="--config-check=$work/checks --check-namespaces=user"
	cp -R "$case/checks" "$work/checks" 2>/dev/null || mkdir -p "$work/checks"
	exit=0
	(cd "$work/scratch" && exec env -i PATH=/usr/bin:/bin HOME="$PWD" TMPDIR="$PWD" unshare --user --net "$trivy" config \
		--skip-check-update --skip-version-check --disable-telemetry --misconfig-scanners=terraform \
		"--cache-dir=$PWD/cache" --format=json --exit-code=10 --timeout=24h "--skip-dirs=**/.terraform" \
		$more "$work/scan") >"$case/stdout" 2>"$case/stderr" || exit=$?
	sed -i "s#$work##g; s#${work#/}##g" "$case/stdout" "$case/stderr"
	printf '{"exit": %d, "version": "%s"}\n' "$exit" "$("$trivy" --version | sed -n 's/^Version: //p')" >"$case/meta.json"
	rm -rf "$work/checks"
done
