"""The error of this package, and the class of every error of storage: decided here, for all who read or write.

=========  =========================================================  =============================================
object     no such file, not what was listed, a closed folder         this object's own: no other attempt helps
denied     AccessDenied, 403                                          of this object, or of the credentials if of all
account    expired, unknown or missing credentials                    nothing more can be read until they are renewed
storage    503 SlowDown, 429, 500, time-outs, resets, EIO, no route   passing: asked again, and later
=========  =========================================================  =============================================
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum


class StoreError(Exception):
    """Something about a store that its user has to know: what was found, what was expected, what to do."""

    code = 2


class StorageFault(StoreError):
    """The storage is away or overloaded, which is nobody's mistake: the same command later goes on."""

    code = 4


class AnotherWriter(StoreError):
    """Somebody else is writing.

    Attributes:
        writer: who, for a message.
    """

    def __init__(self, message: str, writer: str = "") -> None:
        super().__init__(message, writer)
        self.writer = writer

    def __str__(self) -> str:
        return str(self.args[0])


class ErrorClass(Enum):
    """Whose fault an error of storage is."""

    OBJECT = "object"
    DENIED = "denied"
    ACCOUNT = "account"
    STORAGE = "storage"


RESUME = "What was committed is kept: put this right, run the same command again, and it goes on from there."
RESUME_LATER = "What was committed is kept: run the same command again later, and it goes on from there."

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write (ulimit -f)",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
}

PASSING_ERRNO = {
    *(errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ESTALE, errno.ENOTCONN, errno.EPIPE, errno.EMFILE, errno.ENFILE),
    *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
}
"""What network file systems and busy machines say. EIO is also what they make of a throttle."""

# In what clients of object storage say: pyarrow (the enums of Amazon's and Google's C++ clients, or the number of the
# HTTP status), obstore, botocore, google-cloud-storage, fsspec.
DENIED_SIGNS = ("AccessDenied", "ACCESS_DENIED", "PERMISSION_DENIED", "Forbidden", "HTTP status 403", "403 Forbidden")
ACCOUNT_SIGNS = (
    *("Expired", "credential", "Unauthorized", "UNAUTHENTICATED", "InvalidAccessKey", "INVALID_ACCESS_KEY_ID"),
    *("SIGNATURE_DOES_NOT_MATCH", "SignatureDoesNotMatch", "INVALID_CLIENT_TOKEN_ID", "InvalidClientTokenId"),
    *("InvalidToken", "INVALID_SIGNATURE", "TooSkewed", "TOO_SKEWED", "HTTP status 401", "401 Unauthorized"),
    # Answers to HEAD have no body and so no reason; what else makes 400 of a request for an object's head is not known.
    *("HTTP status 400) during Head",),
)
STORAGE_SIGNS = (
    *("NETWORK_CONNECTION", "curlCode", "onnection refused", "onnection reset", "ould not connect", "onnection closed"),
    *("ouldn't connect", "ould not resolve", "UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_TIMEOUT", "imed out"),
    *("SlowDown", "SLOW_DOWN", "reduce your request rate", "Throttling", "THROTTLING", "RequestLimitExceeded"),
    *("RESOURCE_EXHAUSTED", "TooManyRequests", "Too Many Requests", "InternalError", "INTERNAL_FAILURE", "INTERNAL:"),
    *("ServiceUnavailable", "SERVICE_UNAVAILABLE", "Service Unavailable", "Internal Server Error", "Bad Gateway"),
    *("Gateway Timeout", "RequestTimeout", "IncompleteRead", "error sending request", "error decoding response body"),
    *("Server disconnected", "Broken pipe", "Too many open files"),
    *(f"HTTP status {status}" for status in (408, 429, 500, 502, 503, 504)),
)


def classify(error: BaseException | str, names: Iterable[str] = ()) -> ErrorClass:
    """The class of an error, or of what it said.

    Args:
        names: of files, which may be anything (``Expired``, say) and so are no signs.
    """
    text = str(error)
    for name in names:
        text = text.replace(name, "...")
    if isinstance(error, BaseException):
        if (known := class_of_status(error)) is not None:
            return known
        if isinstance(error, TimeoutError | ConnectionError):
            return ErrorClass.STORAGE
    number = error.errno if isinstance(error, OSError) else None
    match = re.match(r"\[Errno (\d+)\]", text)
    if (number or (match and int(match[1]))) in PASSING_ERRNO:
        return ErrorClass.STORAGE
    if any(sign in text for sign in DENIED_SIGNS):
        return ErrorClass.DENIED
    if any(sign in text for sign in ACCOUNT_SIGNS):
        return ErrorClass.ACCOUNT
    return ErrorClass.STORAGE if any(sign in text for sign in STORAGE_SIGNS) else ErrorClass.OBJECT


def class_of_status(error: BaseException) -> ErrorClass | None:
    """The class by the HTTP status that clients of fsspec put on their errors, under different names."""
    for name in ("status", "status_code", "code"):
        status = getattr(error, name, None)
        if status in (408, 429, 500, 502, 503, 504):
            return ErrorClass.STORAGE
        if status in (401, 403):
            return ErrorClass.ACCOUNT if status == 401 else ErrorClass.DENIED
    return None


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn an OSError raised while doing ``action`` into a StoreError. A missing file stays FileNotFoundError:
    whoever asked knows what its absence means."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if classify(error) is ErrorClass.STORAGE:
            raise StorageFault(f"{action} failed: {cause_of(error)}. {RESUME_LATER}") from error
        raise StoreError(f"{action} failed: {cause_of(error)}. {RESUME}") from error


def cause_of(error: OSError) -> str:
    """What an error of storage means, and what it said."""
    cause = CAUSES.get(error.errno or 0)
    kind = classify(error)
    if cause is None and kind in (ErrorClass.ACCOUNT, ErrorClass.DENIED):
        cause = "the credentials are missing, have expired or do not allow it"
    if cause is None and kind is ErrorClass.STORAGE:
        cause = "the storage is away or overloaded"
    detail = " ".join(str(error).split())
    return f"{cause} ({detail})" if cause else detail
