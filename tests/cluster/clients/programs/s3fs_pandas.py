"""s3fs, and pandas on it: tables written and read, a directory tree, a file in pieces."""

import os

import pandas as pd
import s3fs

files = s3fs.S3FileSystem()
files.mkdir("s3fs-pandas")
table = pd.DataFrame({"number": range(10_000), "word": [f"word {n % 97}" for n in range(10_000)]})
for kind in ("parquet", "csv"):
    path = f"s3://s3fs-pandas/tables/table.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
        read = pd.read_parquet(path)
    else:
        table.to_csv(path, index=False)
        read = pd.read_csv(path)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
table["part"] = table.number % 3
table.to_parquet("s3://s3fs-pandas/parted", partition_cols=["part"])
assert len(pd.read_parquet("s3://s3fs-pandas/parted", filters=[("part", "=", 1)])) == 3333
body = os.urandom(11 * 1024 * 1024)
with files.open("s3fs-pandas/pieces.bin", "wb", block_size=5 * 1024 * 1024) as target:
    for start in range(0, len(body), 1_000_003):
        target.write(body[start : start + 1_000_003])
with files.open("s3fs-pandas/pieces.bin", "rb") as source:
    source.seek(5_000_001)
    assert source.read(1000) == body[5_000_001:5_001_001]
files.copy("s3fs-pandas/pieces.bin", "s3fs-pandas/copy.bin")
assert files.cat("s3fs-pandas/copy.bin") == body
assert sorted(files.ls("s3fs-pandas")) == [
    f"s3fs-pandas/{name}" for name in ("copy.bin", "parted", "pieces.bin", "tables")
]
files.rm("s3fs-pandas", recursive=True)
assert not files.exists("s3fs-pandas")
