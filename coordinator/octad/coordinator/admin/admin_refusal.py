"""Why an admin's request is not carried out."""

from __future__ import annotations


class AdminRefused(Exception):
    """With the HTTP status and the code that it is answered with."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
