#!/usr/bin/env bash
# Runs every fuzz target of the repository, each for FUZZTIME (5s when unset, as
# `go test -fuzztime` takes it). With FUZZTIME_OTHERS only the main targets below
# run for FUZZTIME, and all others for FUZZTIME_OTHERS. A target is found by its
# name, so a new one is never forgotten. Arguments are packages, all of them when
# there are none.
set -euo pipefail
cd "$(dirname "$0")/../.."
fuzztime=${FUZZTIME:-5s}
others=${FUZZTIME_OTHERS:-$fuzztime}

# What reads the bytes of strangers: ClientHello, HCL, YAML, subjects, events.
readonly main=" FuzzClientHello FuzzHCL FuzzYAML FuzzSubject FuzzParseSubject FuzzEvents "

# only_the_end tells whether the output of a target that failed says no more than that
# its time was over. Up to Go 1.26 the coordinator may take that for a failure
# (golang/go#75804, the more likely the busier the machine); no input has failed then,
# or there would be words of it.
only_the_end() {
	grep -qx '    context deadline exceeded' "$1" &&
		! grep -qvE '^(fuzz: elapsed: .*|--- FAIL: Fuzz[A-Za-z0-9_]+ \([0-9.]+s\)|    context deadline exceeded|FAIL|exit status 1|FAIL[[:space:]].*)$' "$1"
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
count=0
missing=$main
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' "${@:-./...}"); do
	files=$(find "$package" -maxdepth 1 -name '*_test.go')
	# shellcheck disable=SC2086 # one word a file
	targets=$(grep -hoE '^func Fuzz[A-Za-z0-9_]+\(' $files | sed -E 's/^func (.*)\($/\1/' | sort || true)
	for target in $targets; do
		time=$others
		if [[ $main == *" $target "* ]]; then
			time=$fuzztime
			missing=${missing/ $target / }
		fi
		echo "fuzz: ${package#"$PWD"/} $target for $time"
		# Making an input smaller takes up to a minute by default, out of the
		# time for finding one.
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "$package" >"$output" 2>&1; then
			tail -n 3 "$output"
		elif only_the_end "$output"; then
			grep '^fuzz: elapsed: ' "$output" | tail -n 1
			echo "fuzz: no input failed; Go took the end of the time for a failure (golang/go#75804)"
		else
			cat "$output"
			exit 1
		fi
		count=$((count + 1))
	done
done
if [ "$count" -eq 0 ] || { [ $# -eq 0 ] && [ "$missing" != " " ]; }; then
	echo "fuzz: no such target:$missing" >&2
	exit 1
fi
echo "fuzz: $count targets, the main ones for $fuzztime each, others for $others"
