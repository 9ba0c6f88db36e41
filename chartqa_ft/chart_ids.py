"""Names for charts: one chart has one id, and no two charts of one `load_chartqa` call share one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

# Of a digest of 128 bits; two of a million charts that all have one name agree with a probability below 1e-7.
_MARK_LENGTH = 16


class ChartIds:
    """Gives ids. Questions that share an id share an encoder pass later, so that a shared name shows a wrong chart.

    An image is told by its identity: the absolute path of its file, else a digest. Files with equal content are one
    chart. A name that several charts have is followed by a mark, the start of a digest of the chart's content; it
    depends neither on the order of the records nor on where the files are.

    Args:
        folders: All folders where images of the source may be (resolved), of every split: two splits may each have a
            `png/1.png`, and both are marked, whichever splits are loaded.
        always_mark: Mark every name that is not a file's. For streams that are read piece by piece, perhaps by
            several processes, none of which knows the names in the other pieces.
    """

    def __init__(self, folders: Sequence[Path] = (), *, always_mark: bool = False) -> None:
        self.folders = tuple(dict.fromkeys(map(str, folders)))
        self.always_mark = always_mark
        self._owners: dict[str, str] = {}  # id -> identity
        self._of_files: dict[str, str] = {}  # path -> id
        self._contents: dict[str, str] = {}  # path -> digest

    def fresh(self) -> ChartIds:
        """The same rules, nothing named yet."""
        return ChartIds([Path(folder) for folder in self.folders], always_mark=self.always_mark)

    def of_file(self, path: str) -> str:
        """The id of an image file (a resolved path): its path in the deepest of the folders around it."""
        if path not in self._of_files:
            home = max((folder for folder in self.folders if _is_inside(path, folder)), key=len, default="")
            name = Path(os.path.relpath(path, home) if home else os.path.basename(path)).as_posix()
            twins = {os.path.realpath(os.path.join(folder, name)) for folder in self.folders} - {path}
            twins = {twin for twin in twins if os.path.isfile(twin) and any(_is_inside(twin, f) for f in self.folders)}
            is_shared = any(self._content(twin) != self._content(path) for twin in twins)
            self._of_files[path] = self._marked(name, path) if is_shared else name
        return self.unique(self._of_files[path], path)

    def of_name(self, name: str, identity: str) -> str:
        """The id of an image that its record names: by a `chart_id`, or by a file name beside the bytes."""
        return self.unique(self._marked(name, identity) if self.always_mark else name, identity)

    def unique(self, chart_id: str, identity: str) -> str:
        """`chart_id`, marked where another chart has it already."""
        while True:
            owner = self._owners.setdefault(chart_id, identity)
            if owner == identity or self._content(owner) == self._content(identity):
                return chart_id
            chart_id = self._marked(chart_id, identity, again=True)

    def _marked(self, name: str, identity: str, again: bool = False) -> str:
        mark = f"#{self._content(identity)[:_MARK_LENGTH]}"
        return name if name.endswith(mark) and not again else name + mark

    def _content(self, identity: str) -> str:
        if not os.path.isabs(identity):
            return identity
        if identity not in self._contents:
            try:
                with open(identity, "rb") as file:
                    self._contents[identity] = hashlib.file_digest(file, _blake).hexdigest()
            except OSError:  # the check of the images says so
                self._contents[identity] = digest(identity.encode("utf-8", "surrogatepass"))
        return self._contents[identity]


def digest(data: bytes) -> str:
    """32 hexadecimal digits that tell the content of an image."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _blake() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))
