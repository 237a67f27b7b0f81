"""The one error of this package, and how the errors of file systems become it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """Something about a store that its user has to know: what was found, what was expected, what to do."""


GO_ON = "What was committed is kept: put this right, run the same command again, and it goes on from there."

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write (ulimit -f)",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
}

DENIED_SIGNS = ("AccessDenied", "ACCESS_DENIED", "PERMISSION_DENIED", "Forbidden")
"""In what object storage says of credentials that may not do this; others, or another object, they may."""

CREDENTIAL_SIGNS = (
    *DENIED_SIGNS,
    *("Expired", "credential", "Unauthorized", "UNAUTHENTICATED", "InvalidAccessKey", "INVALID_ACCESS_KEY_ID"),
    *("SIGNATURE_DOES_NOT_MATCH", "SignatureDoesNotMatch", "INVALID_CLIENT_TOKEN_ID", "InvalidClientTokenId"),
)

CONNECTION_SIGNS = (
    *("NETWORK_CONNECTION", "curlCode", "onnection refused", "onnection reset", "ould not connect"),
    *("ouldn't connect", "ould not resolve", "UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_TIMEOUT", "imed out"),
)


def shows(message: str, signs: tuple[str, ...]) -> bool:
    return any(sign in message for sign in signs)


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn an OSError raised while doing ``action`` into a StoreError. A missing file stays FileNotFoundError:
    whoever asked knows what its absence means."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{action} failed: {cause_of(error)}. {GO_ON}") from error


def cause_of(error: OSError) -> str:
    cause = CAUSES.get(error.errno)
    if cause is None and shows(str(error), CREDENTIAL_SIGNS):
        cause = "the credentials are missing, have expired or do not allow it"
    detail = " ".join(str(error).split())
    return f"{cause} ({detail})" if cause else detail
