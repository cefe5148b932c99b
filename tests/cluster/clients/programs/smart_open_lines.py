"""smart_open: lines streamed up, compressed, and down again."""

import os

from smart_open import open as open_anywhere

url = f"s3://{os.environ['OCTAD_BUCKET']}/smart-open/lines.txt.gz"
lines = [f"line {number} {'x' * (number % 300)}\n" for number in range(100_000)]
with open_anywhere(url, "w") as target:
    target.writelines(lines)
with open_anywhere(url) as source:
    assert list(source) == lines
