#!/bin/sh
# Makes sure that the S3 clients of tools/clients/requirements.txt are installed in an environment
# of their own, with octad's SDK, and prints its Python. uv resolves them: pip tries versions of
# boto3 for minutes.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
home=$root/.cache/clients
log=$root/.cache/ensure_clients.log
wanted=$root/tools/clients/requirements.txt

fail() {
	echo "ensure_clients: $1 (what was tried is in $log)" >&2
	exit 1
}

mkdir -p "$root/.cache"
if ! cmp -s "$wanted" "$home/installed.txt"; then
	echo "ensure_clients: installing S3 clients into .cache/clients, once" >&2
	rm -rf "$home"
	{
		"${PYTHON:-python3}" -m venv "$home" &&
			"$home/bin/python" -m pip install --quiet --disable-pip-version-check uv &&
			"$home/bin/uv" pip install --quiet --python "$home/bin/python" -r "$wanted" \
				--editable "$root/client" &&
			cp "$wanted" "$home/installed.txt"
	} >"$log" 2>&1 || fail "the package index did not give them"
fi
echo "$home/bin/python"
