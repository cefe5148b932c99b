"""pyiceberg with its own file I/O: two writers append to one table at once; none is lost."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

WRITERS, COMMITS = 2, 4
endpoints, catalog_file = sys.argv[1:-1], sys.argv[-1]


def catalog(writer: int) -> SqlCatalog:
    return SqlCatalog(
        "octad",
        **{
            "uri": f"sqlite:///{catalog_file}",
            "warehouse": f"s3://{os.environ['OCTAD_BUCKET']}/iceberg",
            "s3.endpoint": endpoints[writer % len(endpoints)],
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        },
    )


first = catalog(0)
first.create_namespace("shop")
first.create_table(
    "shop.orders", schema=pa.schema([("writer", pa.int64()), ("commit", pa.int64())])
)


def append(writer: int) -> None:
    mine = catalog(writer)
    for commit in range(COMMITS):
        while True:
            table = mine.load_table("shop.orders")
            try:
                table.append(pa.table({"writer": [writer], "commit": [commit]}))
            except CommitFailedException:  # Another was first: as an application does.
                continue
            break


with ThreadPoolExecutor(WRITERS) as pool:
    list(pool.map(append, range(WRITERS)))
found = first.load_table("shop.orders").scan().to_arrow()
pairs = sorted(zip(found["writer"].to_pylist(), found["commit"].to_pylist(), strict=True))
assert pairs == [(w, c) for w in range(WRITERS) for c in range(COMMITS)], pairs
