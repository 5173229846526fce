#!/usr/bin/env bash
# step.sh HEADING COMMAND…  runs one step of a task under a heading, says how
#                           long it took, and ends as the command ended.
# step.sh --begin           forgets the steps of an earlier run.
# step.sh --summary         lists the steps since then with their durations.
set -uo pipefail
cd "$(dirname "$0")/../.."
readonly record=.task/steps

case "$1" in
--begin)
	mkdir -p .task
	date +%s >.task/begin
	: >"$record"
	exit
	;;
--summary)
	printf '\n== every step passed\n'
	cat "$record"
	printf '%5d s  in all\n' "$(($(date +%s) - $(cat .task/begin)))"
	exit
	;;
esac

heading=$1
shift
printf '\n== %s\n' "$heading"
start=$(date +%s)
"$@"
status=$?
took=$(($(date +%s) - start))
line=$(printf '%5d s  %s' "$took" "$heading")
if [ "$status" -eq 0 ]; then
	printf -- '-- passed in %d s\n' "$took"
else
	printf -- '-- FAILED after %d s: %s\n' "$took" "$heading" >&2
fi
mkdir -p .task && echo "$line" >>"$record"
exit "$status"
