#!/usr/bin/env bash
# generated.sh write   generates Go from proto/ and records the model as the new
#                      baseline. Refuses when the model breaks the baseline:
#                      readers of old streams would misread them.
# generated.sh check   the same without writing: fails when the committed code or
#                      the baseline is not what the model gives.
#
# The baseline is a committed description of the model as last recorded, not
# git's previous version, so that the check works in a shallow clone and a
# changed number or type is a line in the review. To break the model on purpose,
# delete the baseline by hand and write it anew.
set -euo pipefail
cd "$(dirname "$0")/../../proto"
readonly baseline=buf.baseline.yaml

buf() { go tool -modfile=../deploy/tools/go.mod buf "$@"; }

fail() {
	echo "generated: $1" >&2
	exit 1
}

buf lint
if [ -e "$baseline" ]; then
	buf breaking --against "$baseline" ||
		fail "the model breaks what stands in old streams; add a field instead of changing one"
elif [ "$1" = check ]; then
	fail "proto/$baseline is missing; run: task gen"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
buf build --exclude-source-info -o "$scratch/$baseline"
buf generate -o "$scratch"

case "$1" in
write)
	find . -name '*.pb.go' -delete
	cp -R "$scratch"/. .
	;;
check)
	(find . -name '*.pb.go' && echo "./$baseline") | sort >"$scratch/committed"
	(cd "$scratch" && (find . -name '*.pb.go' && echo "./$baseline") | sort) >"$scratch/generated"
	diff "$scratch/committed" "$scratch/generated" ||
		fail "these files are not the ones that the model gives; run: task gen"
	while read -r file; do
		diff -q "$file" "$scratch/$file" >/dev/null ||
			fail "proto/${file#./} is not what the model gives; run: task gen"
	done <"$scratch/generated"
	;;
*) fail "say write or check" ;;
esac
