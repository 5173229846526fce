#!/usr/bin/env bash
# oldest_envoy.sh COMMAND…  runs a command with the oldest Envoy that is supported, which
#                           install.sh has put beside the one of today.
set -euo pipefail
cd "$(dirname "$0")/../.."
ISTHMUS_ENVOY=$PWD/deploy/.tools/envoy-oldest/envoy/_bin/envoy
export ISTHMUS_ENVOY
if [ ! -x "$ISTHMUS_ENVOY" ]; then
	echo "oldest_envoy: MISSING the oldest Envoy: deploy/tools/install.sh installs it" >&2
	[ -z "${CI:-}" ] || exit 1
	echo "oldest_envoy: NOT TESTED WITH THE OLDEST ENVOY" >&2
	exit 0
fi
exec "$@"
