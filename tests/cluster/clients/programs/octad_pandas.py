"""pandas, pyarrow and DuckDB on octad:// of the SDK, of which they know its entry point."""

import os

import duckdb
import fsspec
import pandas as pd
import pyarrow.dataset

bucket = os.environ["OCTAD_BUCKET"]
table = pd.DataFrame({"number": range(10_000), "word": [f"word {n % 97}" for n in range(10_000)]})
path = f"octad://{bucket}/sdk-pandas"
table.to_parquet(f"{path}/table.parquet")
pd.testing.assert_frame_equal(pd.read_parquet(f"{path}/table.parquet"), table)
table.to_csv(f"{path}/table.csv", index=False)
pd.testing.assert_frame_equal(pd.read_csv(f"{path}/table.csv"), table)
table["part"] = table.number % 3
table.to_parquet(f"{path}/parted", partition_cols=["part"])
assert len(pd.read_parquet(f"{path}/parted", filters=[("part", "=", 1)])) == 3333

files = fsspec.filesystem("octad")
dataset = pyarrow.dataset.dataset(f"{bucket}/sdk-pandas/parted", filesystem=files)
assert dataset.count_rows() == 10_000

database = duckdb.connect()
database.register_filesystem(files)
found = database.execute(f"SELECT sum(number) FROM read_parquet('{path}/table.parquet')").fetchone()
assert found == (sum(range(10_000)),)
