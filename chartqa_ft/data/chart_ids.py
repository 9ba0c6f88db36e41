"""Names for charts: one chart has one id, and no two charts of one `load_chartqa` call share one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from .real_paths import RealPaths

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
        # The folders as paths in them begin, the deepest first; each a key of itself, so that all owners share one.
        starts = sorted((os.path.join(folder, "") for folder in self.folders), key=len, reverse=True)
        self._starts = {start: start for start in starts}
        self._places = RealPaths()
        # id -> identity. Of a file whose id is its path in a folder, only how paths in that folder begin: this is all
        # that a long stream keeps of a chart.
        self._owners: dict[str, str] = {}
        self._contents: dict[str, str] = {}  # path -> digest

    def fresh(self) -> ChartIds:
        """The same rules, nothing named yet."""
        return ChartIds([Path(folder) for folder in self.folders], always_mark=self.always_mark)

    def of_file(self, path: str) -> str:
        """The id of an image file (a resolved path): its path in the deepest of the folders around it."""
        home = self._start_of(path)
        name = (path[len(home) :] if home else os.path.basename(path)).replace(os.sep, "/")
        found = (self._places.find(start, name) for start in self._starts if start != home)
        twins = {twin for twin, is_file in found if is_file and twin != path and self._start_of(twin)}
        is_shared = any(self._content(twin) != self._content(path) for twin in twins)
        return self.unique(self._marked(name, path) if is_shared else name, path)

    def of_name(self, name: str, identity: str) -> str:
        """The id of an image that its record names: by a `chart_id`, or by a file name beside the bytes."""
        return self.unique(self._marked(name, identity) if self.always_mark else name, identity)

    def unique(self, chart_id: str, identity: str) -> str:
        """`chart_id`, marked where another chart has it already."""
        while True:
            start = identity[: -len(chart_id)] if chart_id and identity.endswith(chart_id) else ""
            owner = self._owners.setdefault(chart_id, self._starts.get(start, identity))
            owner = owner + chart_id if owner in self._starts else owner
            if owner == identity or self._content(owner) == self._content(identity):
                return chart_id
            chart_id = self._marked(chart_id, identity, again=True)

    def _start_of(self, path: str) -> str:
        """How paths in the deepest of the folders around `path` begin, "" where there is none."""
        return next((start for start in self._starts if path.startswith(start)), "")

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
