"""Where files really are, with the links in their folders followed once for all files of a folder."""

from __future__ import annotations

import os
import stat

# Folders whose place is kept; a source with more of them has most of them looked up anew.
_KEPT_FOLDERS = 4096


class RealPaths:
    """`os.path.realpath` and `os.path.isfile` in one, for many files in few folders.

    A folder is looked up once in the life of this object, so that it should not outlive one pass over the records;
    every file is looked at each time.
    """

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], str] = {}

    def find(self, folder: str, name: str) -> tuple[str, bool]:
        """The absolute path of `name` in `folder` without links or `..`, and whether an ordinary file is there.

        Raises:
            ValueError: A null byte in the path.
            OSError: The path cannot be followed at all.
        """
        head, _, last = name.rpartition("/")
        # On Windows one file has several spellings, which only the system knows.
        if os.name != "posix" or last in ("", ".", "..") or (name.startswith("/") and not head):
            return _find(os.path.join(folder, name))
        path = os.path.join(self._folder(folder, head), last)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return path, False
        return _find(path) if stat.S_ISLNK(mode) else (path, stat.S_ISREG(mode))

    def _folder(self, folder: str, head: str) -> str:
        place = self._folders.get((folder, head))
        if place is None:
            if len(self._folders) >= _KEPT_FOLDERS:
                self._folders.clear()
            place = self._folders[folder, head] = os.path.realpath(os.path.join(folder, head))
        return place


def _find(path: str) -> tuple[str, bool]:
    path = os.path.realpath(path)
    return path, os.path.isfile(path)
