"""Why an admin's request is not carried out."""

from __future__ import annotations


class AdminRefused(Exception):
    """A refused admin request, with the HTTP status and code of its answer."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
