#!/bin/sh
# Installs Debian packages that only tests need, through apt-get, where that is
# allowed: by root, or by sudo without a password. Elsewhere, and with NO_APT=1,
# it names them. It never fails: the tests that miss a package do, and name it.
#
#   scripts/system-packages.sh NAME...
set -u

# present NAME: is what the package gives there, from wherever it came?
present() {
	case $1 in
	postgresql)
		for file in /usr/lib/postgresql/*/bin/postgres; do
			[ -x "$file" ] && return 0
		done
		command -v initdb >/dev/null
		;;
	openssh-server) [ -x /usr/sbin/sshd ] || command -v sshd >/dev/null ;;
	openssh-client) command -v ssh-keygen >/dev/null ;;
	gnupg) command -v gpg >/dev/null && command -v gpgconf >/dev/null ;;
	nodejs) command -v node >/dev/null ;;
	npm) command -v npm >/dev/null ;;
	chromium) command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ;;
	*)
		echo "scripts/system-packages.sh does not know the package $1: say in present() what it gives" >&2
		return 0
		;;
	esac
}

missing=
for name in "$@"; do
	present "$name" || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=env
elif sudo -n true 2>/dev/null; then
	as_root='sudo -n env'
else
	as_root=
fi
if [ -n "${NO_APT:-}" ] || [ -z "$as_root" ] || ! command -v apt-get >/dev/null; then
	echo "test packages: not installed, so the tests that need them will fail:$missing"
	exit 0
fi

# The words of $as_root and $missing are meant to be apart.
# shellcheck disable=SC2086
apt() { $as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null; }
# shellcheck disable=SC2086
install_missing() { apt install -y --no-install-recommends $missing 2>&1; }

echo "test packages: installing through apt-get:$missing"
if ! said=$(install_missing || { apt update && install_missing; } 2>&1); then
	printf '%s\n' "$said" | tail -n 5
	echo "test packages: apt-get could not install them, so the tests that need them will fail:$missing"
fi
exit 0
