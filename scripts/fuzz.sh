#!/bin/sh
# Runs every fuzz test of the module, one after the other.
#
#   scripts/fuzz.sh TIME      TIME for each, as go test takes it: 10s, 5m
set -eu

listed=$(go test -list '^Fuzz' ./...)
names=
printf '%s\n' "$listed" | while read -r word package _; do
	case $word in
	Fuzz*) names="$names $word" ;;
	ok) # the package that the names before belong to
		for name in $names; do
			echo "fuzz: $name in $package for $1"
			go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$package" </dev/null
		done
		names=
		;;
	esac
done
