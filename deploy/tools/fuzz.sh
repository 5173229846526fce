#!/usr/bin/env bash
# Runs every fuzz target of the repository, each for FUZZTIME (5s when unset, as
# `go test -fuzztime` takes it). A target is found by its name, so a new one is
# never forgotten. Arguments are packages, all of them when there are none.
set -euo pipefail
cd "$(dirname "$0")/../.."
fuzztime=${FUZZTIME:-5s}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
count=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' "${@:-./...}"); do
	files=$(find "$package" -maxdepth 1 -name '*_test.go')
	# shellcheck disable=SC2086 # one word a file
	targets=$(grep -hoE '^func Fuzz[A-Za-z0-9_]+\(' $files | sed -E 's/^func (.*)\($/\1/' | sort || true)
	for target in $targets; do
		echo "fuzz: ${package#"$PWD"/} $target for $fuzztime"
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package" >"$output" 2>&1; then
			cat "$output"
			exit 1
		fi
		tail -n 3 "$output"
		count=$((count + 1))
	done
done
if [ "$count" -eq 0 ]; then
	echo "fuzz: no target found" >&2
	exit 1
fi
echo "fuzz: $count targets, $fuzztime each"
