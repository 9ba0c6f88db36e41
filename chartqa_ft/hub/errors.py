"""What went wrong with the Hub in plain words, with what to do about it, and without any token; and trying again."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from .public import known_tokens, redact

__all__ = ["HubError", "explained"]

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_HTTP_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp")
_UNSENDABLE = ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL", "TooManyRedirects")
_NEVER_ARRIVED = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")
_WRAPPING = ("RevisionResolutionError", "EntryNotFoundError")
_LOCAL = ("EntryNotFoundError", "LocalTokenNotFoundError", "RevisionResolutionError", "FileMetadataError")
_STATUS = re.compile(r"(?i)\b(?:status|code|error|http)[^\w\n]{0,4}(?:\w+ ){0,2}\(?([45]\d\d)\b|\b([45]\d\d) [A-Z]")


class HubError(OSError):
    """The Hub could not do what was asked; the message says why and what to do, and holds no token.

    Attributes:
        status: of the answer, e.g. 403; `None` where there was none.
        retry_after: seconds after which the Hub wants to be asked again, where it said so.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@contextmanager
def explained(
    action: Literal["push", "propose", "load"],
    repo_id: str,
    *,
    keep: str | Path | None = None,
    repo_type: str = "model",
    revision: str | None = None,
    token: str | bool | None = None,
) -> Iterator[None]:
    """Turn whatever the Hub's clients raise inside into a `HubError`; other errors go through as they are.

    Args:
        action: write to the Hub, write to it as a pull request, or read from it.
        repo_id: of the repository that is asked for.
        keep: folder with what was to be pushed, which the message names: nothing is lost.
        repo_type: `"model"` or `"dataset"`, a word of the message.
        revision: branch, tag or commit that was asked for.
        token: the one in use, so that no message quotes it; that of the login is known without.

    Raises:
        HubError: in place of what huggingface_hub, its HTTP client, hf_xet, or transformers around them raised.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # those of the HTTP client have no builtin base
        known = known_tokens(token)
        found = _cause(error)
        if found is None:
            raise
        what, advice = _explain(found, action, repo_id, repo_type, revision)
        done = f"{repo_id} was not {'loaded' if action == 'load' else 'pushed'}"
        kept = f" Nothing is lost: the files are kept in {keep}." if keep is not None else ""
        text = redact(f"{done}: {what}. {advice}{kept}", *known)
        # A cause is printed with its own words: it is left out if these hold a token.
        # By their representation too: a UnicodeEncodeError shows there what could not be sent.
        words = "\n".join(f"{one}\n{one!r}" for one in _chain(error))
        written = [form for token in known for form in (token, repr(token)[1:-1], ascii(token)[1:-1])]
        cause = error if redact(words, *written) == words else None
        raise HubError(text, status=_status(found), retry_after=_retry_after(found)) from cause


# ------------------------------------------------------------------ what happened
class _Words(NamedTuple):
    what: str
    advice: str


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, as a traceback shows them."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _is_transport(error: BaseException) -> bool:
    """Whether no answer came: errors of the HTTP clients, and the builtin ones that hf_xet and sockets raise."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not packages.isdisjoint(_HTTP_PACKAGES) or isinstance(error, (ConnectionError, TimeoutError))


def _is_full_disk(error: BaseException) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def _cause(error: BaseException) -> BaseException | None:
    """What says most about the failure, among the error and its causes; `None` for an error that is not the Hub's."""
    if isinstance(error, ValueError) and not _is_answer(error):
        is_ours = "HFValidationError" in _kinds(error) or _raised_by_client(error, "huggingface_hub")
        return error if is_ours else None
    wraps = isinstance(error, (OSError, RuntimeError)) or not _kinds(error).isdisjoint(_WRAPPING)
    chain = list(_chain(error)) if wraps else [error]
    for is_cause in (
        _is_answer,
        lambda one: "OfflineModeIsEnabled" in _kinds(one),
        _is_full_disk,
        _is_transport,
        lambda one: not _kinds(one).isdisjoint(_LOCAL),
    ):
        for one in chain:
            if is_cause(one):
                return one
    return error if isinstance(error, RuntimeError) and _raised_by_client(error, "huggingface_hub", "hf_xet") else None


def _is_answer(error: BaseException) -> bool:
    return getattr(error, "response", None) is not None


def _raised_by_client(error: BaseException, *packages: str) -> bool:
    """Whether a function of these packages was running when it was raised."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in packages:
            return True
        trace = trace.tb_next
    return False


def _status(error: BaseException) -> int | None:
    """The answer's status. hf_xet has it in the text of its errors alone."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code
    if _is_transport(error) and (found := _STATUS.search(str(error))):
        return int(found[1] or found[2])
    return None


def _retry_after(error: BaseException) -> int | None:
    """Seconds that the Hub asks to wait, from `Retry-After` or its `RateLimit` (`"api";r=0;t=55`)."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in (429, 503):
        return None
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return int(asked)
    found = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", response.headers.get("ratelimit", ""))
    return int(found[1]) if found else None


def _may_pass(error: BaseException, found: BaseException, repeatable: bool) -> bool:
    if isinstance(error, RuntimeError) or type(found) is ConnectionError or "OfflineModeIsEnabled" in _kinds(found):
        return False  # huggingface_hub or hf_xet, whose errors are plain, tried several times; or no network by wish
    status = _status(found)
    if status is not None:
        return status in (408, 429) or status >= 500
    if not _is_transport(found) or not _kinds(found).isdisjoint(_UNSENDABLE):
        return False
    return repeatable or not _kinds(found).isdisjoint(_NEVER_ARRIVED)


def _short(error: BaseException) -> str:
    status = _status(error)
    if status == 429:
        return "too many requests"
    return f"the Hub answered with error {status}" if status else "the connection to the Hub broke"


def _said(error: BaseException) -> str:
    """The server's own words in brackets, in one line."""
    words = " ".join(str(getattr(error, "server_message", None) or "").split())
    return f" (it says: {words[:300]})" if words else ""


def _explain(error: BaseException, action: str, repo_id: str, repo_type: str, revision: str | None) -> tuple[str, str]:
    kinds, status, noun = _kinds(error), _status(error), {"dataset": "data set"}.get(repo_type, repo_type)
    again = {
        "push": "Do the same again: large files that are stored already are not sent twice.",
        "propose": f"Before you do it again, see {_endpoint()}/{repo_id}/discussions: the pull request may be there "
        "all the same.",
        "load": "Do the same again: files that came whole are not fetched twice.",
    }[action]
    if _is_full_disk(error):
        return _Words(
            "the disk is full", "Free some space, or set HF_HOME to a folder with more of it, and try again."
        )
    uncached = not kinds.isdisjoint({"LocalEntryNotFoundError", "RevisionResolutionError", "FileMetadataError"})
    if "OfflineModeIsEnabled" in kinds or (uncached and _offline()):
        what = "HF_HUB_OFFLINE=1 forbids asking the Hub"
        what += f", and the {noun} is not whole in this machine's cache" if action == "load" else ""
        return _Words(what, "Unset HF_HUB_OFFLINE and do the same again.")
    if "HFValidationError" in kinds:
        return _Words(
            f"{repo_id!r} is no name of a {noun}",
            "A name is like owner/name, of letters, digits, '-', '_' and '.', and no longer than 96.",
        )
    if isinstance(error, UnicodeEncodeError) and status is None:
        return _Words(
            "the token holds a sign that no token has", f"Copy it again from {TOKENS_PAGE}: {_log_in(action)}"
        )
    if isinstance(error, ValueError) and status is None:
        return _Words(_one_line(error), "Mend what it names, and try again.")
    if "LocalTokenNotFoundError" in kinds:
        return _Words("you are not logged in", _log_in(action))
    if status is not None:
        return _explain_status(error, status, action, repo_id, noun, revision, again)
    if uncached:
        what = f"this machine's cache does not hold the whole {noun}, and the Hub could not be asked"
        return _Words(what, f"Check the network, and HF_ENDPOINT if it is set. {again}")
    if "EntryNotFoundError" in kinds:
        return _Words(f"a file is missing in it: {_one_line(error)}", "Check the name of the file.")
    if not _kinds(error).isdisjoint(_UNSENDABLE):
        return _Words(
            f"no request could be made ({type(error).__name__})", "Check HF_ENDPOINT, the proxy and the token."
        )
    if _is_transport(error):
        never = not kinds.isdisjoint(_NEVER_ARRIVED)
        what = f"the Hub {'cannot be reached' if never else 'did not answer'} ({type(error).__name__})"
        what = f"the connection to the Hub broke ({type(error).__name__})" if not never and _broke(kinds) else what
        return _Words(what, f"Check the network, and HF_ENDPOINT if it is set. {again}")
    return _Words(_one_line(error), again)


def _broke(kinds: set[str]) -> bool:
    return any("Timeout" not in kind and ("Read" in kind or "Write" in kind or "Protocol" in kind) for kind in kinds)


def _explain_status(
    error: BaseException, status: int, action: str, repo_id: str, noun: str, revision: str | None, again: str
) -> _Words:
    kinds, response = _kinds(error), getattr(error, "response", None)
    request = getattr(response, "request", None)
    anonymous = request is not None and "authorization" not in request.headers
    path = request.url.path if request is not None else ""
    owner, said = repo_id.partition("/")[0], _said(error)
    page = f"{_endpoint()}/{'datasets/' if noun == 'data set' else ''}{repo_id}"
    if "GatedRepoError" in kinds:
        advice = f"Ask for access at {page}, " + ("then log in: hf auth login." if anonymous else "then try again.")
        return _Words(f"its authors give access to those alone who asked for it{said}", advice)
    if "DisabledRepoError" in kinds:
        return _Words("the Hub has disabled it", f"See {page}.")
    if "RevisionNotFoundError" in kinds:
        name = "such branch, tag or commit" if revision is None else f"branch, tag or commit {revision!r}"
        return _Words(f"it has no {name}", f"See which there are: {page}/tree/main.")
    if "/commit/" in path and (status in (409, 412) or "EntryNotFoundError" in kinds):
        return _Words(f"somebody else changed {repo_id} at the same time{said}", again)
    if "EntryNotFoundError" in kinds:
        return _Words(f"it has no file {path.rpartition('/')[2]!r}", f"See which it has: {page}/tree/main.")
    if "RepositoryNotFoundError" in kinds or status == 404:
        if anonymous:
            return _Words(
                f"there is no {noun} {repo_id}, or it is private and you are not logged in",
                f"Check the name. {_log_in(action)}",
            )
        return _Words(
            f"there is no {noun} {repo_id}, or it is private and your token may not see it",
            f"Check the name, or take a token of somebody who may ({TOKENS_PAGE}).",
        )
    if status == 401:
        if anonymous:
            return _Words("you are not logged in", _log_in(action))
        return _Words(
            "the Hub refused the token: it is wrong, or no longer valid",
            f"Make a new one at {TOKENS_PAGE} and log in with it: hf auth login (or set HF_TOKEN).",
        )
    if status == 403 and action != "load":
        return _Words(
            f"the token may not write to {repo_id}{said}",
            f"Make a token with write permission at {TOKENS_PAGE} and log in with it (hf auth login, or HF_TOKEN). "
            f"If you do not belong to {owner!r}, the name is taken: push to one that begins with your own user name.",
        )
    if status == 403:
        return _Words(f"the token may not read it{said}", f"Take a token with read permission ({TOKENS_PAGE}).")
    if status == 409 and "/repos/" in path:
        return _Words(
            f"the name is taken: there is a {noun} {repo_id} already", f"Choose another name, or see {page}."
        )
    if status == 429:
        seconds = _retry_after(error)
        when = "in some minutes" if seconds is None else f"in {seconds} seconds"
        return _Words("the Hub got too many requests from you", f"Wait, and try again {when}. {again}")
    if status == 408 or status >= 500:
        return _Words(
            f"the Hub has trouble of its own (error {status}){said}",
            f"Wait some minutes (https://status.huggingface.co shows whether it is down). {again}",
        )
    words = said or f" ({_one_line(error)})"
    return _Words(f"the Hub refused it with error {status}{words}", "Mend what it names, and try again.")


def _log_in(action: str) -> str:
    permission = "read" if action == "load" else "write"
    return f"Log in with a token that has {permission} permission: hf auth login (or set HF_TOKEN)."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
