"""Errors of the Hub, explained: what happened, what to do about it, and no token in the message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from ..printable import printable
from .failures import NEVER_ARRIVED, UNSENDABLE, chain, class_names, hub_failure, is_full_disk, is_transport, status_of
from .failures import retry_after as asked_wait
from .public import known_tokens, redact

__all__ = ["Action", "HubError", "explained"]

Action = Literal["push", "propose", "load"]
"""To write to the Hub, to write to it as a pull request, or to read from it."""
TOKENS_PAGE = "https://huggingface.co/settings/tokens"


class HubError(OSError):
    """The Hub did not do what was asked. The message says why and what to do, contains no token, and is printable.

    Attributes:
        status: HTTP status of the answer, such as 403; `None` if there was no answer.
        retry_after: seconds after which the Hub asks to try again, if it said so.

    Example:
        >>> HubError("alice/model was not pushed: the token may not write to it", status=403).status
        403
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: int | None = None):
        super().__init__(printable(message, lines=True))
        self.status, self.retry_after = status, retry_after


@contextmanager
def explained(
    action: Action,
    repo_id: str,
    *,
    keep: str | Path | None = None,
    repo_type: str = "model",
    revision: str | None = None,
    token: str | bool | None = None,
) -> Iterator[None]:
    """Turn what the Hub's clients raise inside the block into a `HubError`; other errors pass through unchanged.

    Args:
        action: what was tried.
        repo_id: the repository on the Hub.
        keep: folder with the files that were to be pushed; the message says that nothing is lost.
        repo_type: `"model"` or `"dataset"`, for the message.
        revision: the branch, tag or commit that was asked for.
        token: the token in use, so that no message quotes it; see also `known_tokens`.

    Raises:
        HubError: in place of what huggingface_hub, its HTTP client, hf_xet, or transformers around them raised.

    Example:
        >>> with explained("push", "alice/model", keep="out"):
        ...     raise ConnectionResetError("connection reset by peer")
        Traceback (most recent call last):
        ...
        chartqa_ft.hub.errors.HubError: alice/model was not pushed: the Hub did not answer ... kept in out.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the HTTP clients' errors have no builtin base class
        failure = hub_failure(error)
        if failure is None:
            raise
        tokens = known_tokens(token)
        what, advice = _explain(failure, action, repo_id, repo_type, revision)
        done = f"{repo_id} was not {'loaded' if action == 'load' else 'pushed'}"
        kept = f" Nothing is lost: the files are kept in {keep}." if keep is not None else ""
        text = redact(f"{done}: {what}. {advice}{kept}", tokens)
        # A traceback prints the cause too, so it is dropped if it contains a token. Its repr is searched as well:
        # a UnicodeEncodeError shows there what could not be sent.
        words = "\n".join(f"{one}\n{one!r}" for one in chain(error)).encode("utf-8", "replace").decode()
        written = [form for token in tokens for form in (token, repr(token)[1:-1], ascii(token)[1:-1])]
        cause = error if redact(words, written) == words else None
        raise HubError(text, status=status_of(failure), retry_after=asked_wait(failure)) from cause


class _Explanation(NamedTuple):
    what: str
    advice: str


def _server_message(error: BaseException) -> str:
    """Return the server's own message in parentheses, on one line."""
    words = " ".join(str(getattr(error, "server_message", None) or "").split())
    return f" (it says: {words[:300]})" if words else ""


def _explain(error: BaseException, action: Action, repo_id: str, repo_type: str, revision: str | None) -> _Explanation:
    kinds, status, noun = class_names(error), status_of(error), {"dataset": "data set"}.get(repo_type, repo_type)
    try_again = {
        "push": "Try again: large files that are already stored are not uploaded twice.",
        "propose": f"Before you try again, look at {_endpoint()}/{repo_id}/discussions: the pull request may "
        "have been opened after all.",
        "load": "Try again: files that are already complete are not downloaded twice.",
    }[action]
    if is_full_disk(error):
        return _Explanation(
            "the disk is full", "Free some space, or set HF_HOME to a folder on a larger disk, and try again."
        )
    uncached = not kinds.isdisjoint({"LocalEntryNotFoundError", "RevisionResolutionError", "FileMetadataError"})
    if "OfflineModeIsEnabled" in kinds or (uncached and _offline()):
        what = "HF_HUB_OFFLINE=1 forbids asking the Hub"
        what += f", and the {noun} is not complete in this machine's cache" if action == "load" else ""
        return _Explanation(what, "Unset HF_HUB_OFFLINE and try again.")
    if "HFValidationError" in kinds:
        return _Explanation(
            f"{repo_id!r} is not a valid {noun} name",
            "A name looks like owner/name, with letters, digits, '-', '_' and '.', and has at most 96 characters.",
        )
    if isinstance(error, UnicodeEncodeError) and status is None:
        return _Explanation(
            "the token contains a character that no token has", f"Copy it again from {TOKENS_PAGE}: {_log_in(action)}"
        )
    if isinstance(error, ValueError) and status is None:
        return _Explanation(_one_line(error), "Fix what it names, and try again.")
    if "LocalTokenNotFoundError" in kinds:
        return _Explanation("you are not logged in", _log_in(action))
    if status is not None:
        return _explain_status(error, status, action, repo_id, noun, revision, try_again)
    if uncached:
        what = f"this machine's cache does not hold the whole {noun}, and the Hub cannot be asked"
        return _Explanation(what, f"Check the network, and HF_ENDPOINT if it is set. {try_again}")
    if "EntryNotFoundError" in kinds:
        return _Explanation(f"it lacks a file: {_one_line(error)}", "Check the file name.")
    if not class_names(error).isdisjoint(UNSENDABLE):
        return _Explanation(
            f"no request could be made ({type(error).__name__})", "Check HF_ENDPOINT, the proxy and the token."
        )
    if is_transport(error):
        never = not kinds.isdisjoint(NEVER_ARRIVED)
        what = f"the Hub {'cannot be reached' if never else 'did not answer'} ({type(error).__name__})"
        what = f"the connection to the Hub broke ({type(error).__name__})" if not never and _broke(kinds) else what
        return _Explanation(what, f"Check the network, and HF_ENDPOINT if it is set. {try_again}")
    return _Explanation(_one_line(error), try_again)


def _broke(kinds: set[str]) -> bool:
    return any("Timeout" not in kind and ("Read" in kind or "Write" in kind or "Protocol" in kind) for kind in kinds)


def _explain_status(
    error: BaseException, status: int, action: Action, repo_id: str, noun: str, revision: str | None, try_again: str
) -> _Explanation:
    kinds, response = class_names(error), getattr(error, "response", None)
    request = getattr(response, "request", None)
    anonymous = request is not None and "authorization" not in request.headers
    path = request.url.path if request is not None else ""
    owner, said = repo_id.partition("/")[0], _server_message(error)
    page = f"{_endpoint()}/{'datasets/' if noun == 'data set' else ''}{repo_id}"
    if "GatedRepoError" in kinds:
        advice = f"Ask for access at {page}, " + ("then log in: hf auth login." if anonymous else "then try again.")
        return _Explanation(f"its authors give access on request only{said}", advice)
    if "DisabledRepoError" in kinds:
        return _Explanation("the Hub has disabled it", f"See {page}.")
    if "RevisionNotFoundError" in kinds:
        name = "such branch, tag or commit" if revision is None else f"branch, tag or commit {revision!r}"
        return _Explanation(f"it has no {name}", f"See its branches and tags: {page}/tree/main.")
    if "/commit/" in path and (status in (409, 412) or "EntryNotFoundError" in kinds):
        return _Explanation(f"somebody else changed {repo_id} at the same time{said}", try_again)
    if "EntryNotFoundError" in kinds:
        return _Explanation(f"it has no file {path.rpartition('/')[2]!r}", f"See its files: {page}/tree/main.")
    if "RepositoryNotFoundError" in kinds or status == 404:
        if anonymous:
            return _Explanation(
                f"there is no {noun} {repo_id}, or it is private and you are not logged in",
                f"Check the name. {_log_in(action)}",
            )
        return _Explanation(
            f"there is no {noun} {repo_id}, or it is private and your token may not see it",
            f"Check the name, or use a token that may see it ({TOKENS_PAGE}).",
        )
    if status == 401:
        if anonymous:
            return _Explanation("you are not logged in", _log_in(action))
        return _Explanation(
            "the Hub refused the token: it is wrong, or no longer valid",
            f"Make a new one at {TOKENS_PAGE} and log in with it: hf auth login (or set HF_TOKEN).",
        )
    if status == 403 and action != "load":
        return _Explanation(
            f"the token may not write to {repo_id}{said}",
            f"Make a token with write permission at {TOKENS_PAGE} and log in with it (hf auth login, or HF_TOKEN). "
            f"If you do not belong to {owner!r}, the name is taken: push to one that starts with your own user name.",
        )
    if status == 403:
        return _Explanation(f"the token may not read it{said}", f"Use a token with read permission ({TOKENS_PAGE}).")
    if status == 409 and "/repos/" in path:
        return _Explanation(
            f"the name is taken: there is a {noun} {repo_id} already", f"Choose another name, or see {page}."
        )
    if status == 429:
        seconds = asked_wait(error)
        when = "in a few minutes" if seconds is None else f"in {seconds} seconds"
        return _Explanation("you sent the Hub too many requests", f"Try again {when}. {try_again}")
    if status == 408 or status >= 500:
        return _Explanation(
            f"the Hub has a problem (error {status}){said}",
            f"Wait a few minutes (see https://status.huggingface.co). {try_again}",
        )
    words = said or f" ({_one_line(error)})"
    return _Explanation(f"the Hub refused it with error {status}{words}", "Fix what it names, and try again.")


def _log_in(action: Action) -> str:
    permission = "read" if action == "load" else "write"
    return f"Log in with a token that has {permission} permission: hf auth login (or set HF_TOKEN)."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
