"""Write the page of S3's operations anew."""

from __future__ import annotations

from pathlib import Path

from tools.compliance.page import page

PAGE = Path("docs/reference/s3-operations.md")

if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
