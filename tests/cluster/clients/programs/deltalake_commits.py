"""deltalake: four writers append to one table at once; no commit is lost."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError

WRITERS, COMMITS = 4, 5
root = f"s3://{os.environ['OCTAD_BUCKET']}/deltalake"


def options(endpoint: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}


endpoints = sys.argv[1:]
rows = pa.schema([("writer", pa.int64()), ("commit", pa.int64())])
write_deltalake(
    root,
    pa.table({"writer": [0], "commit": [-1]}, schema=rows),
    storage_options=options(endpoints[0]),
)


def append(writer: int) -> None:
    mine = options(endpoints[writer % len(endpoints)])
    for commit in range(COMMITS):
        row = pa.table({"writer": [writer], "commit": [commit]}, schema=rows)
        while True:
            try:
                write_deltalake(root, row, mode="append", storage_options=mine)
            except CommitFailedError:  # Too many others were first: as an application does.
                continue
            break


with ThreadPoolExecutor(WRITERS) as pool:
    list(pool.map(append, range(WRITERS)))
table = DeltaTable(root, storage_options=options(endpoints[-1]))
# Not by pyarrow: its threads, which call back into Python to read, may abort Python's end.
found = QueryBuilder().register("t", table).execute("select writer, commit from t").read_all()
pairs = sorted(zip(found["writer"].to_pylist(), found["commit"].to_pylist(), strict=True))
assert pairs == sorted([(0, -1), *((w, c) for w in range(WRITERS) for c in range(COMMITS))]), pairs
assert table.version() == WRITERS * COMMITS
