"""DuckDB with its httpfs extension: parquet written from a query, many files read with a glob."""

import os
from pathlib import Path

import duckdb
import duckdb_extension_httpfs

(extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
database = duckdb.connect()
database.execute(f"load '{extension}'")
database.execute(
    "create secret (type s3, key_id ?, secret ?, endpoint ?, url_style 'path', use_ssl false,"
    " region 'us-east-1')".replace("?", "'{}'").format(
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"),
    )
)
root = f"s3://{os.environ['OCTAD_BUCKET']}/duckdb"
database.execute(
    f"copy (select i, i % 5 as part, repeat('x', 100) as text from range(200000) t(i))"
    f" to '{root}' (format parquet, partition_by (part))"
)
(count, total) = database.execute(
    f"select count(*), sum(i) from read_parquet('{root}/*/*.parquet', hive_partitioning=true)"
    " where part = 2"
).fetchone()
assert (count, total) == (40_000, sum(range(2, 200_000, 5)))
