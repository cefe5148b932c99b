"""polars: frames sunk as parquet and scanned lazily."""

import os

import polars as pl

root = f"s3://{os.environ['OCTAD_BUCKET']}/polars"
options = {"aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"], "aws_allow_http": "true"}
frame = pl.DataFrame({"number": range(100_000), "even": [n % 2 == 0 for n in range(100_000)]})
for part in range(3):
    frame.filter(pl.col("number") % 3 == part).write_parquet(
        f"{root}/part-{part}.parquet", storage_options=options
    )
lazy = pl.scan_parquet(f"{root}/*.parquet", storage_options=options)
assert lazy.filter(pl.col("even")).select(pl.col("number").sum()).collect().item() == sum(
    range(0, 100_000, 2)
)
lazy.sort("number").sink_parquet(f"{root}/sorted.parquet", storage_options=options)
again = pl.read_parquet(f"{root}/sorted.parquet", storage_options=options)
assert again["number"].to_list() == list(range(100_000))
