#!/bin/sh
# Makes sure that there is an etcd for the tests, and prints its path: one on PATH, else one in
# .cache/bin, else the distribution's package unpacked there (nothing is installed, so no service is
# started), else one built from the Go module proxy. `ensure_etcd.sh 3.6` asks for the built one.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.cache/bin
log=$root/.cache/ensure_etcd.log

fail() {
	echo "ensure_etcd: $1 (what was tried is in $log)" >&2
	exit 1
}

from_apt() {
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
	work=$(mktemp -d "$root/.cache/etcd-apt.XXXXXX")
	(
		cd "$work"
		apt-get download etcd-server ||
			{ [ "$(id -u)" = 0 ] && apt-get update && apt-get download etcd-server; }
	) >>"$log" 2>&1 &&
		dpkg-deb -x "$work"/etcd-server_*.deb "$work" >>"$log" 2>&1 &&
		mv "$work/usr/bin/etcd" "$bin/etcd"
	status=$?
	rm -rf "$work"
	return $status
}

from_go() {
	command -v go >/dev/null || return 1
	echo "ensure_etcd: building etcd, once; this takes some minutes" >&2
	(cd "$root/tools/etcd36" && nice go build -trimpath -o "$bin/$1" .) >>"$log" 2>&1
}

mkdir -p "$bin"
if [ "${1-}" = 3.6 ]; then
	[ -x "$bin/etcd36" ] || from_go etcd36 ||
		fail "etcd 3.6 could not be built: it needs Go 1.26 or newer and a Go module proxy"
	echo "$bin/etcd36"
	exit
fi
if command -v etcd; then
	exit
fi
[ -x "$bin/etcd" ] || from_apt || from_go etcd ||
	fail "no etcd: install the package etcd-server (sudo apt-get install etcd-server), or Go"
echo "$bin/etcd"
