#!/bin/sh
# Prints the path of what checks the files of a cluster in containers: `haproxy`, `promtool` or
# `compose-check`. One on PATH, else one in .cache/bin, else the distribution's package unpacked there
# (nothing is installed, so no service is started); compose-check is built from the Go module proxy.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.cache/bin
log=$root/.cache/ensure_deployment_tool.log
name=${1-}

fail() {
	echo "there is no $name here: $1 (what was tried is in $log)" >&2
	exit 1
}

unpacked() {
	# The package and what it needs that is not installed, in a directory of its own.
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
	work=$(mktemp -d "$root/.cache/deb.XXXXXX")
	mkdir "$work/partial" "$work/files"
	get="apt-get install -y --no-install-recommends --download-only
		-o Debug::NoLocking=true -o Dir::Cache::archives=$work $1"
	# shellcheck disable=SC2086
	{ $get || { [ "$(id -u)" = 0 ] && apt-get update && $get; }; } >>"$log" 2>&1 &&
		for package in "$work"/*.deb; do
			dpkg-deb -x "$package" "$work/files" >>"$log" 2>&1 || return 1
		done &&
		rm -rf "$root/.cache/$name" && mv "$work/files" "$root/.cache/$name"
	status=$?
	rm -rf "$work"
	return $status
}

from_apt() {
	unpacked "$1" || return 1
	program=$(find "$root/.cache/$name" -type f -name "$name" -path '*bin*' | head -n 1)
	libraries=$(find "$root/.cache/$name" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
	[ -n "$program" ] || return 1
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$program" >"$bin/$name"
	chmod +x "$bin/$name"
}

mkdir -p "$bin"
if [ "$name" != compose-check ] && command -v "$name"; then
	exit
fi
if [ ! -x "$bin/$name" ]; then
	case $name in
	haproxy) from_apt haproxy || fail "install the package haproxy" ;;
	promtool) from_apt prometheus || fail "install the package prometheus" ;;
	compose-check)
		command -v go >/dev/null || fail "it is built with Go, and there is none"
		(cd "$root/tools/compose_check" && nice go build -trimpath -o "$bin/$name" .) >>"$log" 2>&1 ||
			fail "it needs Go 1.24 or newer and a Go module proxy"
		;;
	*)
		echo "usage: ensure_deployment_tool.sh haproxy|promtool|compose-check" >&2
		exit 2
		;;
	esac
fi
echo "$bin/$name"
