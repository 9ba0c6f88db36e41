"""Real paths of files: where the links of a folder lead, resolved once for all its files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from .columns import LayoutError

# How many resolved folders are remembered; the memory is cleared when there are more.
_REMEMBERED_FOLDERS = 4096
# How many files of a folder are searched for one that may be meant.
_LISTED = 1000
# A download in the Hugging Face cache, whose files are links into the folder `blobs` beside `snapshots`.
_SNAPSHOT = re.compile(r"(.*[/\\\\])snapshots[/\\\\][0-9a-f]{40}([/\\\\].*)?")


def check_inside(paths: Iterable[Path], top: Path) -> None:
    """Check that no link leads out of a data set. Only `top` itself, which the user has named, may be a link.

    A data set may come from a stranger, and what its links lead to would be trained on and published. Links from one
    place in it to another are allowed, and those of a download in the Hugging Face cache.

    Args:
        paths: files and folders below `top`.
        top: the folder of the data set.

    Raises:
        LayoutError: a path leads to another place; the message names it.

    Example:
        >>> import tempfile
        >>> top = Path(tempfile.mkdtemp())
        >>> (top / "png").symlink_to(tempfile.mkdtemp())
        >>> check_inside([top / "png"], top)
        Traceback (most recent call last):
        ...
        chartqa_ft.data.columns.LayoutError: .../png leads out of ...
    """
    home = os.path.realpath(top)
    starts = [os.path.join(home, "")]
    if (snapshot := _SNAPSHOT.fullmatch(home)) is not None:
        starts.append(os.path.join(snapshot[1], "blobs", ""))
    for path in paths:
        real = os.path.realpath(path)
        if real != home and not real.startswith(tuple(starts)):
            raise LayoutError(
                f"{path} leads out of {top}, to {real}: links in a data set are not followed to other places. Replace "
                "the link by a copy if you trust it; images that lie elsewhere can be named with image_dir"
            )


def check_links(top: Path) -> None:
    """Check that no link anywhere below a folder leads out of it; see `check_inside`.

    Raises:
        LayoutError: a link leads to another place; the message names it.
    """
    for folder, names, files in os.walk(top):
        check_inside((path for name in (*names, *files) if (path := Path(folder, name)).is_symlink()), top)


class RealPaths:
    """`os.path.realpath` and `os.path.isfile` in one, for many files in few folders.

    A folder is resolved once in the life of this object, which should therefore not outlive one pass over the records.
    Every file is checked each time.

    Example:
        >>> import os, tempfile
        >>> folder = os.path.realpath(tempfile.mkdtemp())
        >>> path, is_file = RealPaths().find(folder, "png/../a.png")
        >>> os.path.relpath(path, folder), is_file
        ('a.png', False)
    """

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], str] = {}

    def find(self, folder: str, name: str) -> tuple[str, bool]:
        """Return the absolute path of `name` in `folder` without links or `..`, and whether it is a regular file.

        Raises:
            ValueError: There is a null byte in the path.
            OSError: The path cannot be resolved at all.
        """
        head, _, last = name.rpartition("/")
        # On Windows a file has several spellings, which only the system knows.
        if os.name != "posix" or last in ("", ".", "..") or (name.startswith("/") and not head):
            return _find(os.path.join(folder, name))
        path = os.path.join(self._folder(folder, head), last)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return path, False
        return _find(path) if stat.S_ISLNK(mode) else (path, stat.S_ISREG(mode))

    def _folder(self, folder: str, head: str) -> str:
        resolved = self._folders.get((folder, head))
        if resolved is None:
            if len(self._folders) >= _REMEMBERED_FOLDERS:
                self._folders.clear()
            resolved = self._folders[folder, head] = os.path.realpath(os.path.join(folder, head))
        return resolved


def _find(path: str) -> tuple[str, bool]:
    path = os.path.realpath(path)
    return path, os.path.isfile(path)


def nearest_path(path: str | Path) -> str | None:
    """Return the path in the same folder that a path which is not there probably means, or `None`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "questions.csv").touch()
        >>> nearest_path(folder / "qestions.csv") == str(folder / "questions.csv")
        True
        >>> nearest_path("nowhere/at all.csv") is None
        True
    """
    wanted = Path(path)
    try:
        names = [entry.name for entry in islice(wanted.parent.iterdir(), _LISTED)]
    except OSError:
        return None
    found = get_close_matches(wanted.name, names, 1, 0.75)
    return str(wanted.with_name(found[0])) if found else None
