"""pyarrow's own S3 client: a parted dataset written, read with a filter, and deleted."""

import os

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

files = fs.S3FileSystem(
    endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), scheme="http"
)
root = os.environ["OCTAD_BUCKET"] + "/pyarrow"
table = pa.table({"day": [n % 7 for n in range(70_000)], "value": list(range(70_000))})
ds.write_dataset(
    table,
    root,
    filesystem=files,
    format="parquet",
    partitioning=["day"],
    partitioning_flavor="hive",
)
found = ds.dataset(root, filesystem=files, partitioning="hive").to_table(
    filter=pc.field("day") == 3
)
assert found.num_rows == 10_000
assert set(found["value"].to_pylist()) == set(range(3, 70_000, 7))
body = os.urandom(23 * 1024 * 1024)
with files.open_output_stream(f"{root}/large.bin") as stream:
    stream.write(body)
with files.open_input_file(f"{root}/large.bin") as source:
    assert source.size() == len(body)
    assert source.read_at(1000, 20_000_000) == body[20_000_000:20_001_000]
assert len(files.get_file_info(fs.FileSelector(root, recursive=True))) == 7 * 2 + 1
files.delete_dir_contents(root)
