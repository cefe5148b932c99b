#!/bin/sh
# Makes sure that the S3 SDKs of one language (java, javascript or go) are in .cache, in their newest
# versions, and prints the directory that holds them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
language=$1
home=$root/.cache/$language
log=$root/.cache/ensure_sdks_$language.log

java() {
	mvn --quiet --batch-mode --file "$wanted" dependency:copy-dependencies \
		-DoutputDirectory="$home"
}

javascript() {
	cp "$wanted" "$home" &&
		npm install --no-audit --no-fund --prefix "$home"
}

go_modules() {
	cd "$home" &&
		go mod init octad/clients &&
		xargs go get <"$wanted" &&
		sed 's/@.*//' "$wanted" | xargs go build # Into Go's cache: minutes on a slow machine.
}

case $language in
java) wanted=pom.xml install=java tool=mvn packages="maven default-jdk-headless" ;;
javascript) wanted=package.json install=javascript tool=npm packages="nodejs npm" ;;
go) wanted=go_modules.txt install=go_modules tool=go packages=golang-go ;;
esac
wanted=$root/tools/clients/$wanted

mkdir -p "$root/.cache"
if ! cmp -s "$wanted" "$home/installed"; then
	command -v "$tool" >/dev/null || {
		echo "ensure_sdks: there is no $tool here: sudo apt-get install $packages" >&2
		exit 1
	}
	echo "ensure_sdks: fetching S3 SDKs into .cache/$language, once" >&2
	rm -rf "$home"
	mkdir "$home"
	$install >"$log" 2>&1 || {
		echo "ensure_sdks: the registry did not give them (what was tried is in $log)" >&2
		exit 1
	}
	cp "$wanted" "$home/installed"
fi
echo "$home"
