"""Check what the Hub answers before anybody makes paths of it, and what it sends before anybody reads it.

huggingface_hub and datasets name files in their caches after the commit and the ETag of an answer. A path in their
place would write anywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..files import write_whole
from .errors import HubError

logger = logging.getLogger(__name__)

__all__ = ["cached_digests", "check_content", "check_revision", "check_sha", "checked_answers", "digests_of"]

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
# Hashes on the Hub; mirrors of it use other words.
_ETAG = re.compile(r"[A-Za-z0-9][\w.+=-]{0,127}", re.ASCII)
_COMMIT_HEADER, _ETAG_HEADERS, _XET_HEADER = "x-repo-commit", ("x-linked-etag", "etag"), "x-xet-hash"
_CHUNK = 1 << 20
_CHECKED = ".chartqa_ft_checked"
"""Folder in the cache of a model that remembers which of its files were checked."""


# ------------------------------------------------------------------ answers
@contextmanager
def checked_answers(name: str) -> Iterator[None]:
    """Check every answer that huggingface_hub gets within the block.

    Args:
        name: the model or data set, for the error message.

    Raises:
        HubError: the commit, the ETag or the xet hash in an answer could not be one.

    Example:
        >>> from huggingface_hub import HfApi
        >>> with checked_answers("alice/model"):
        ...     info = HfApi().model_info("alice/model")  # doctest: +SKIP
    """
    from huggingface_hub import get_session

    def check(response: Any) -> None:
        _check_headers(name, response)
        path = urlsplit(str(response.request.url)).path
        if path.startswith(("/api/models/", "/api/datasets/")) and "/tree/" not in path:
            _check_body(name, response)

    client = get_session()
    with _LOCK:
        client.event_hooks = {**client.event_hooks, "response": [*client.event_hooks["response"], check]}
    try:
        yield
    finally:
        with _LOCK:
            left = [hook for hook in client.event_hooks["response"] if hook is not check]
            client.event_hooks = {**client.event_hooks, "response": left}


_LOCK = threading.Lock()


def check_sha(name: str, sha: Any) -> str:
    """Return the commit of an answer, which must be 40 hexadecimal digits.

    Raises:
        HubError: it is something else.

    Example:
        >>> check_sha("alice/model", "../../elsewhere")
        Traceback (most recent call last):
        ...
        chartqa_ft.hub.errors.HubError: alice/model was not loaded: the Hub's answer names '../../elsewhere' as its \
commit, which must be 40 hexadecimal digits. Check HF_ENDPOINT and the proxy, if you use one.
    """
    if not isinstance(sha, str) or not _COMMIT.fullmatch(sha):
        raise _refusal(
            name, f"the Hub's answer names {_quoted(sha)} as its commit, which must be 40 hexadecimal digits"
        )
    return sha


def check_revision(name: str, revision: Any) -> None:
    """Check a branch, tag or commit that may come from a file: huggingface_hub makes a path of it.

    Raises:
        ValueError: git allows no such name.

    Example:
        >>> check_revision("alice/model", "refs/pr/1")
        >>> check_revision("alice/model", "../../elsewhere")
        Traceback (most recent call last):
        ...
        ValueError: alice/model: revision must be a branch, tag or commit, got '../../elsewhere'
    """
    if revision is None:
        return
    good = isinstance(revision, str) and revision.isprintable() and 0 < len(revision) <= 255
    if not good or ".." in revision or "\\" in revision or revision.startswith("/") or ":" in revision:
        raise ValueError(f"{name}: revision must be a branch, tag or commit, got {revision!r:.300}")


def _check_headers(name: str, response: Any) -> None:
    headers = response.headers
    if _COMMIT_HEADER in headers:
        check_sha(name, headers[_COMMIT_HEADER])
    if response.request.method == "HEAD":
        for header in _ETAG_HEADERS:
            # As huggingface_hub reads it.
            tag = headers.get(header, "x").lstrip("W/").strip('"')
            if not _ETAG.fullmatch(tag):
                where = f"the ETag of {_quoted(urlsplit(str(response.request.url)).path.rpartition('/')[2])}"
                raise _refusal(name, f"the Hub's answer gives {_quoted(tag)} as {where}, which is not a hash")
    if _XET_HEADER in headers and not _SHA256.fullmatch(headers[_XET_HEADER]):
        raise _refusal(name, f"the Hub's answer gives {_quoted(headers[_XET_HEADER])} as the xet hash of a file")


def _check_body(name: str, response: Any) -> None:
    """Check the commit that an answer about a model or a data set names."""
    if response.status_code != 200 or "json" not in response.headers.get("content-type", ""):
        return
    try:
        answer = json.loads(response.read())
    except (ValueError, RecursionError) as error:
        raise _refusal(name, f"the Hub's answer is not JSON ({type(error).__name__})") from error
    if isinstance(answer, dict) and answer.get("sha") is not None:
        check_sha(name, answer["sha"])


def _refusal(name: str, what: str) -> HubError:
    return HubError(f"{name} was not loaded: {what}. Check HF_ENDPOINT and the proxy, if you use one.")


def _quoted(value: Any) -> str:
    return ascii(str(value))[:120]


# ------------------------------------------------------------------ files
def digests_of(files: Any) -> dict[str, str]:
    """Return the digest of each file that the Hub announces: a SHA-256 of large files, the git hash of others.

    Args:
        files: the `siblings` of a model's info with `files_metadata=True`.

    Example:
        >>> from types import SimpleNamespace
        >>> digests_of([SimpleNamespace(rfilename="config.json", blob_id="0123456789" * 4, lfs=None)])
        {'config.json': '0123456789012345678901234567890123456789'}
    """
    found = {}
    for file in files:
        digest = file.lfs.sha256 if file.lfs is not None else file.blob_id
        if isinstance(digest, str) and (_COMMIT.fullmatch(digest) or _SHA256.fullmatch(digest)):
            found[file.rfilename] = digest
    return found


def cached_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digests that the Hub announced when large files were downloaded: huggingface_hub names them so.

    Args:
        folder: the snapshot of a model in the cache, whose files are links.
        names: the files to look at.
    """
    found = {name: Path(os.readlink(folder / name)).name for name in names if (folder / name).is_symlink()}
    return {name: digest for name, digest in found.items() if _SHA256.fullmatch(digest)}


def check_content(name: str, folder: Path, digests: Mapping[str, str], *, remove: bool = True) -> None:
    """Compare downloaded files with their digests, each file once: its size and time are remembered in the cache.

    Files in a cache that this user cannot write to are not checked.

    Args:
        name: the model, for the error message.
        folder: the snapshot of the model in the cache, `<model>/snapshots/<commit>`.
        digests: see `digests_of`. Files that are not in the folder are skipped.
        remove: remove a file with another content from the cache, so that the next download gets it again.

    Raises:
        HubError: a file has another content than announced; the message names it.
    """
    store = folder.parent.parent
    if not os.access(store, os.W_OK):
        return
    for file_name, digest in digests.items():
        path = folder / file_name
        if not path.is_file():
            continue
        state = path.stat()
        mark, known = store / _CHECKED / digest, f"{state.st_size} {state.st_mtime_ns}\n"
        if mark.is_file() and not mark.is_symlink() and mark.read_bytes()[:64] == known.encode():
            continue
        if _digest(path, digest) != digest:
            if remove:
                _remove(path, store)
            advice = "It was removed from the cache: try again." if remove else f"Delete {path} and try again."
            raise HubError(
                f"{name} was not loaded: the content of {_quoted(file_name)} is not the one that the Hub announces "
                f"({digest[:12]}...). {advice} If it happens again, check HF_ENDPOINT and the proxy, if you use one."
            )
        try:
            write_whole(mark, known)
        except OSError as error:
            logger.debug("%s: cannot remember that %s was checked: %s", name, file_name, error)


def _digest(path: Path, like: str) -> str:
    """Return the digest of a file, of the same kind as another one."""
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _remove(path: Path, store: Path) -> None:
    """Remove a file of a snapshot, and what its link points to if that is in the same cache."""
    target = path.parent / os.readlink(path) if path.is_symlink() else None
    path.unlink()
    if target is not None and Path(os.path.normpath(target)).parent == store / "blobs":
        Path(os.path.normpath(target)).unlink(missing_ok=True)
