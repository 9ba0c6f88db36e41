"""Ids of charts: one chart has one id, and no two charts of one `load_chartqa` call share an id."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from .real_paths import RealPaths

# Hexadecimal digits of the digest that are added to a name: 64 of 128 bits. Two of a million charts with the same name
# get the same id with a probability below 1e-7.
_DIGEST_LENGTH = 16


class ChartIds:
    """Assign an id to every chart.

    Questions with the same id share an encoder pass later, so two charts with one id would mix up their images.

    An image is identified by the absolute path of its file, or by a digest if it has no file. Files with equal content
    are one chart. If several charts have the same name, the name is followed by `#` and the start of a digest of the
    chart's content, which depends neither on the order of the records nor on the location of the files.

    Args:
        folders: All folders where images of the source may be (resolved paths), for every split. Two splits may each
            have a `png/1.png`; both ids get a digest, whichever splits are loaded.
        always_add_digest: Add the digest to every name that is not that of a file. For streams that are read shard by
            shard, perhaps by several processes, none of which knows the names in the other shards.
    """

    def __init__(self, folders: Sequence[Path] = (), *, always_add_digest: bool = False) -> None:
        self.folders = tuple(dict.fromkeys(map(str, folders)))
        self.always_add_digest = always_add_digest
        # The prefixes of paths in the folders, the deepest first; a dict, so that all owners share one string.
        starts = sorted((os.path.join(folder, "") for folder in self.folders), key=len, reverse=True)
        self._starts = {start: start for start in starts}
        self._real_paths = RealPaths()
        # id -> identity. For a file whose id is its path in a folder, only the prefix of paths in that folder is
        # stored; this is all that a long stream keeps of a chart.
        self._owners: dict[str, str] = {}
        self._contents: dict[str, str] = {}  # path -> digest

    def fresh(self) -> ChartIds:
        """Return a copy with the same rules and no ids assigned yet."""
        return ChartIds([Path(folder) for folder in self.folders], always_add_digest=self.always_add_digest)

    def of_file(self, path: str) -> str:
        """Return the id of an image file (a resolved path): its path in the deepest folder that contains it."""
        home = self._start_of(path)
        name = (path[len(home) :] if home else os.path.basename(path)).replace(os.sep, "/")
        if home and len(self._starts) == 1:  # no other folder can have a file of this name
            return self.unique(name, path)
        found = (self._real_paths.find(start, name) for start in self._starts if start != home)
        twins = {twin for twin, is_file in found if is_file and twin != path and self._start_of(twin)}
        is_shared = any(self._content(twin) != self._content(path) for twin in twins)
        return self.unique(self._with_digest(name, path) if is_shared else name, path)

    def of_name(self, name: str, identity: str) -> str:
        """Return the id of an image that its record names, by a `chart_id` or by a file name beside the bytes."""
        return self.unique(self._with_digest(name, identity) if self.always_add_digest else name, identity)

    def unique(self, chart_id: str, identity: str) -> str:
        """Return `chart_id`, with a digest added if another chart already has it."""
        while True:
            start = identity[: -len(chart_id)] if chart_id and identity.endswith(chart_id) else ""
            owner = self._owners.setdefault(chart_id, self._starts.get(start, identity))
            owner = owner + chart_id if owner in self._starts else owner
            if owner == identity or self._content(owner) == self._content(identity):
                return chart_id
            chart_id = self._with_digest(chart_id, identity, again=True)

    def _start_of(self, path: str) -> str:
        """Return the prefix of the deepest folder that contains `path`, or "" if there is none."""
        return next((start for start in self._starts if path.startswith(start)), "")

    def _with_digest(self, name: str, identity: str, again: bool = False) -> str:
        suffix = f"#{self._content(identity)[:_DIGEST_LENGTH]}"
        return name if name.endswith(suffix) and not again else name + suffix

    def _content(self, identity: str) -> str:
        """Return the digest of a chart's content."""
        if not os.path.isabs(identity):
            return identity
        if identity not in self._contents:
            try:
                with open(identity, "rb") as file:
                    self._contents[identity] = hashlib.file_digest(file, _blake).hexdigest()
            except OSError:  # reported by the check of the images
                self._contents[identity] = digest(identity.encode("utf-8", "surrogatepass"))
        return self._contents[identity]


def digest(data: bytes) -> str:
    """Return a digest of the content of an image, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _blake() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)
