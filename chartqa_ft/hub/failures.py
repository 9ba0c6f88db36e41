"""What the exceptions of the Hub's clients say: the cause, the status, and whether a second try can help.

huggingface_hub wraps the errors of its HTTP client and of hf_xet, and transformers wraps those again. Exceptions are
recognized by name: the HTTP client differs between versions of huggingface_hub.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

_HTTP_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp")
UNSENDABLE = ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL", "TooManyRedirects")
"""Errors of requests that cannot be made, so that a second try would fail too."""
NEVER_ARRIVED = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")
"""Errors of requests that the Hub cannot have received."""
_WRAPPING = ("RevisionResolutionError", "EntryNotFoundError")
_LOCAL = ("EntryNotFoundError", "LocalTokenNotFoundError", "RevisionResolutionError", "FileMetadataError")
_STATUS = re.compile(r"(?i:\b(?:status|code|error|http)[^\w\n]{0,4}(?:\w+ ){0,2})\(?([45]\d\d)\b|\b([45]\d\d) [A-Z]")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it was raised from, in the order of a traceback.

    Example:
        >>> error = OSError("upload failed")
        >>> error.__cause__ = TimeoutError("slow")
        >>> [type(one).__name__ for one in chain(error)]
        ['OSError', 'TimeoutError']
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def class_names(error: BaseException) -> set[str]:
    """Return the names of the error's class and of all its base classes.

    Example:
        >>> "OSError" in class_names(TimeoutError())
        True
    """
    return {kind.__name__ for kind in type(error).__mro__}


def is_transport(error: BaseException) -> bool:
    """Return whether no answer came: errors of HTTP clients, and the builtin ones of hf_xet and sockets.

    Example:
        >>> is_transport(ConnectionResetError()), is_transport(ValueError())
        (True, False)
    """
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not packages.isdisjoint(_HTTP_PACKAGES) or isinstance(error, (ConnectionError, TimeoutError))


def is_full_disk(error: BaseException) -> bool:
    """Return whether the error says that the disk or the quota is full.

    Example:
        >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device"))
        True
    """
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def hub_failure(error: BaseException) -> BaseException | None:
    """Return whichever of the error and its causes says most about the failure.

    Returns:
        `None` if the error does not come from the Hub or one of its clients.

    Example:
        >>> hub_failure(KeyError("x")) is None
        True
        >>> hub_failure(ConnectionResetError("peer"))
        ConnectionResetError('peer')
    """
    if isinstance(error, ValueError) and not _is_answer(error):
        from_hub = "HFValidationError" in class_names(error) or _raised_by(error, "huggingface_hub")
        return error if from_hub else None
    wraps = isinstance(error, (OSError, RuntimeError)) or not class_names(error).isdisjoint(_WRAPPING)
    errors = list(chain(error)) if wraps else [error]
    for is_cause in (
        _is_answer,
        lambda one: "OfflineModeIsEnabled" in class_names(one),
        is_full_disk,
        is_transport,
        lambda one: not class_names(one).isdisjoint(_LOCAL),
    ):
        for one in errors:
            if is_cause(one):
                return one
    # A file of another size than announced is a plain OSError without errno.
    plain = isinstance(error, RuntimeError) or (type(error) is OSError and error.errno is None)
    return error if plain and _raised_by(error, "huggingface_hub", "hf_xet") else None


def _is_answer(error: BaseException) -> bool:
    return getattr(error, "response", None) is not None


def _raised_by(error: BaseException, *packages: str) -> bool:
    """Return whether a function of these packages was running when the error was raised."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in packages:
            return True
        trace = trace.tb_next
    return False


def status_of(failure: BaseException) -> int | None:
    """Return the HTTP status of a failure, or `None` if there was no answer.

    hf_xet gives the status in the text of its errors only.

    Example:
        >>> status_of(ConnectionError("xet: HTTP status 503")), status_of(ConnectionError("reset"))
        (503, None)
    """
    response = getattr(failure, "response", None)
    if response is not None:
        return response.status_code
    if is_transport(failure) and (found := _STATUS.search(str(failure))):
        return int(found[1] or found[2])
    return None


def retry_after(failure: BaseException) -> int | None:
    """Return the seconds that the Hub asks to wait, from `Retry-After` or its `RateLimit` (`"api";r=0;t=55`).

    Example:
        >>> retry_after(ConnectionError("no answer, no header")) is None
        True
    """
    response = getattr(failure, "response", None)
    if response is None or response.status_code not in (429, 503):
        return None
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return int(asked)
    found = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", response.headers.get("ratelimit", ""))
    return int(found[1]) if found else None


def may_pass(error: BaseException, failure: BaseException, *, repeatable: bool = True) -> bool:
    """Return whether the same call may succeed if it is made again.

    Args:
        error: what the call raised.
        failure: its `hub_failure`.
        repeatable: `False` if the call must not be made twice: only a request that the Hub refused or cannot have
            received is then worth another try.

    Example:
        >>> reset = ConnectionResetError("peer")
        >>> may_pass(reset, reset), may_pass(reset, reset, repeatable=False)
        (True, False)
    """
    if (
        # huggingface_hub and hf_xet, whose errors are plain, have tried several times already.
        isinstance(error, RuntimeError)
        or type(failure) is ConnectionError
        or "OfflineModeIsEnabled" in class_names(failure)
    ):
        return False
    status = status_of(failure)
    if status is not None:
        return status in (408, 429) or status >= 500
    if not is_transport(failure) or not class_names(failure).isdisjoint(UNSENDABLE):
        return False
    return repeatable or not class_names(failure).isdisjoint(NEVER_ARRIVED)


def summary(failure: BaseException) -> str:
    """Return a few words about a failure, for a log.

    Example:
        >>> summary(ConnectionResetError("peer"))
        'the connection to the Hub broke'
    """
    status = status_of(failure)
    if status == 429:
        return "too many requests"
    return f"the Hub answered with error {status}" if status else "the connection to the Hub broke"
