"""Real paths of files: the links in a folder are resolved once for all its files."""

from __future__ import annotations

import os
import stat

# How many resolved folders are remembered; the memory is cleared when there are more.
_REMEMBERED_FOLDERS = 4096


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
