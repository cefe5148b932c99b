"""What the SDK raises, by what a caller has to do about it.

    OctadError
    ├── ConfigurationError      correct what the client was made with, or an argument
    ├── ClientClosed            make another client
    ├── Unavailable             no one could answer: try later; see `outcome_unknown`
    │   ├── CannotReach         no connection: address, network, or a node that is down
    │   │   └── WrongProtocol   http where it is https or the reverse, or no S3 server at all
    │   ├── DeadlineExceeded    it took longer than the call was given
    │   ├── BreakerOpen         not even asked, because it failed again and again just now
    │   └── Overloaded          the cluster asks for fewer requests
    ├── Refused                 the answer is no, and will be again; `code` says why
    │   ├── NotFound            ObjectNotFound, BucketNotFound, UploadNotFound
    │   ├── ConditionFailed     something else stands there than the condition named
    │   ├── BucketExists, BucketNotEmpty
    │   ├── AccessDenied        of these keys; WrongKey, WrongClock
    │   └── StorageFull         the disks, or the bucket's quota
    ├── Damaged                 bytes did not arrive as they were sent
    └── DownloadFailed          the local file could not be written; what was there before stands

Every message is: what happened; what to do.
"""

from __future__ import annotations


class OctadError(Exception):
    """Anything that the SDK raises on purpose. `fix` says what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.fix = fix


class ConfigurationError(OctadError, ValueError):
    """An argument or a variable of the environment makes no sense."""


class ClientClosed(OctadError):
    """The client was closed before the call."""

    def __init__(self) -> None:
        super().__init__("the client is closed", "make another one, or close it later")


class Unavailable(OctadError):
    """No node gave a decisive answer.

    `outcome_unknown`: a write may have been done, or may still be. Doing the same again through
    this client is safe for a put, a copy, a deletion; look first before anything that counts.
    """

    def __init__(self, what: str, fix: str, *, outcome_unknown: bool = False) -> None:
        if outcome_unknown:
            what = f"{what} (it may have been done all the same)"
        super().__init__(what, fix)
        self.outcome_unknown = outcome_unknown


class CannotReach(Unavailable):
    """No connection could be made, or each one broke."""


class WrongProtocol(CannotReach):
    """What answers speaks TLS or plain HTTP where the other was asked for, or no HTTP at all."""


class DeadlineExceeded(Unavailable, TimeoutError):
    """The call's time was over."""


class BreakerOpen(Unavailable):
    """Calls failed one after the other, so this one was not made at all.

    `retry_in_s`: when one will be let through to see.
    """

    def __init__(self, name: str, retry_in_s: float) -> None:
        super().__init__(
            f"{name} failed again and again, so it is not asked for another {retry_in_s:.1f} s",
            "do without it until then (a fallback=), or try later",
        )
        self.name = name
        self.retry_in_s = retry_in_s


class Overloaded(Unavailable):
    """The cluster asks for fewer requests, or this client has too many under way already."""


class Refused(OctadError):
    """The cluster decided against it, and nothing was done.

    `code` is S3's name for the reason, `status` HTTP's, `request_id` what the node's log calls it.
    """

    def __init__(self, what: str, fix: str, *, code: str, status: int, request_id: str) -> None:
        super().__init__(what, fix)
        self.code = code
        self.status = status
        self.request_id = request_id


class NotFound(Refused):
    """What was named is not there."""


class ObjectNotFound(NotFound):
    """There is no object of that key."""


class BucketNotFound(NotFound):
    """There is no bucket of that name."""


class UploadNotFound(NotFound):
    """The multipart upload was completed or given up."""


class ConditionFailed(Refused):
    """Another object stands there than the condition named, or one where none was to be."""


class BucketExists(Refused):
    """The name is taken."""


class BucketNotEmpty(Refused):
    """Objects are left in the bucket."""


class AccessDenied(Refused):
    """These keys may not do that."""


class WrongKey(AccessDenied):
    """The cluster does not know the access key, or the secret is another one."""


class WrongClock(AccessDenied):
    """This machine's clock is too far from the cluster's."""


class StorageFull(Refused):
    """The disks have no room, or the bucket's quota is used up."""


class Damaged(OctadError):
    """Bytes are not those that were stored, or not as many."""


class DownloadFailed(OctadError):
    """The local file could not be written. `__cause__` is the system's error."""
