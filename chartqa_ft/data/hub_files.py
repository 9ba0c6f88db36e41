"""Image files that the records of a stream name on the Hub: only those of its own data set, fetched to be checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard
from zipfile import BadZipFile

from ..hub.errors import explained
from ..hub.retry import retrying
from ..images.bombs import MAX_FILE_BYTES
from .cells import shorten
from .record_errors import RecordProblem

# A file on the Hub, or one in an archive there, as `datasets` names it while streaming. Nothing else is accepted: in a
# chain of addresses ("file:///home/x.png::hf://y") the first one decides what is opened.
_HUB_FILE = re.compile(r"(?:(?:zip|tar|gzip|bz2|xz|lz4|zstd)://(?:(?!::).)*::){0,2}hf://((?:(?!::).)+)")


@dataclass
class HubFiles:
    """The files on the Hub that the records of a stream may name. Can be pickled.

    Args:
        label: what messages call the data set.
        tokens: the token for each data set whose files may be named, `owner/name` -> token; empty for any data set,
            for a stream that is the user's own.
    """

    label: str
    tokens: Mapping[str, str | bool | None] = field(default_factory=dict, repr=False)
    # The questions on a chart usually follow each other.
    _last: tuple[str, bytes] | None = field(default=None, repr=False, compare=False)

    def names(self, path: object) -> TypeGuard[str]:
        """Return whether a record names a file on the Hub at all.

        Example:
            >>> [HubFiles("charts").names(path) for path in ("hf://datasets/bob/charts@main/a.png", "a.png")]
            [True, False]
        """
        return isinstance(path, str) and _HUB_FILE.fullmatch(path) is not None

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Args:
            path: an address of which `names` is true.

        Raises:
            RecordProblem: it lies in another repository, does not exist or is too large.
            HubError: the Hub refuses access or cannot be reached.
        """
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        token = self._token(path)
        try:
            with explained("load", self.label, repo_type="dataset", token=token):
                content = retrying(lambda: fetched(path, token), what=f"reading {path}")
        except FileNotFoundError as error:
            raise RecordProblem("no image file", f"there is no file {shorten(path)}", path) from error
        except (BadZipFile, EOFError, KeyError, ValueError) as error:
            raise RecordProblem("unreadable image", f"{error}", path) from error
        self._last = path, content
        return content

    def _token(self, path: str) -> str | bool | None:
        found = _HUB_FILE.fullmatch(path)
        place = found[1] if found else ""
        # "x@main/../../other" is a file of another repository.
        if ".." in place.split("/"):
            raise RecordProblem("path leaves image_dir", f"{shorten(path)} leads out of its repository", path)
        if not self.tokens:
            return None
        for name, token in self.tokens.items():
            if place.startswith((f"datasets/{name}@", f"datasets/{name}/")):
                return token
        raise RecordProblem(
            "path leaves image_dir", f"{shorten(path)} is not a file of {' or '.join(self.tokens)}", path
        )


def fetched(path: str, token: str | bool | None = None) -> bytes:
    """Return the content of a file at an address that `datasets` knows how to open: `hf://`, `https://`, `zip://`.

    Args:
        path: the address.
        token: for the Hub; `None` uses the one that is logged in.

    Raises:
        OSError: the file does not exist or cannot be reached.
        ValueError: it has more than `MAX_FILE_BYTES`.
    """
    from datasets import DownloadConfig
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb", download_config=DownloadConfig(token=token)) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES:,} bytes")
    return content
