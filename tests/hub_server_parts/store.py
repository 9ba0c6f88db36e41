"""What the loopback hub keeps: users, repositories with their commits, and large files. Nothing here knows HTTP."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import xet

KINDS = ("model", "dataset")
LFS_SIZE = 10 * 1024 * 1024
"""Bytes from which the Hub stores a file outside git, whatever its name."""
LFS_NAMES = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.model", "*.parquet"),
    *("*.arrow", "*.zip", "*.tar", "*.tar.*", "*.gz", "*.npz", "*.npy", "*.pkl", "*.pickle", "*.joblib"),
    *("*.png", "*.jpg", "*.jpeg", "*tfevents*"),
)


class HubError(Exception):
    """An answer that is an error.

    Args:
        status: of the HTTP answer.
        message: for people; goes into the header `X-Error-Message` and the body.
        code: `X-Error-Code`, by which the client chooses its exception.
        extra: more fields of the JSON body.
        headers: more headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **(extra or {})}
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}


@dataclass(frozen=True)
class User:
    """The owner of a token, and what the token may do (`"read"` or `"write"`)."""

    name: str
    role: str


@dataclass(frozen=True)
class Entry:
    """A file of a commit.

    Attributes:
        size: in bytes.
        oid: SHA-1 of the git blob: of the content, or of the pointer of a large file.
        content: `None` for a large file.
        sha256: of a large file, the name that it is stored under.
    """

    size: int
    oid: str
    content: bytes | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    tree: Mapping[str, Entry]
    title: str
    description: str
    author: str
    date: str


def regular_entry(content: bytes) -> Entry:
    return Entry(len(content), git_oid(content), content=content)


def lfs_entry(sha256: str, size: int) -> Entry:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return Entry(size, git_oid(pointer.encode()), sha256=sha256)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub stores a file outside git: by its size, its name, or because it is binary."""
    name = path.rpartition("/")[2]
    return size >= LFS_SIZE or b"\0" in sample or any(fnmatch(name, pattern) for pattern in LFS_NAMES)


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Repository:
    """Commits, and the names (`refs/heads/main`, `refs/tags/v1`, `refs/pr/1`) that point at them."""

    def __init__(self, kind: str, name: str, private: bool):
        self.kind, self.name, self.private = kind, name, private
        self.owner = name.partition("/")[0]
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.discussions: list[dict[str, str]] = []
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_NAMES)
        tree = {".gitattributes": regular_entry(attributes.encode())}
        self.commit("refs/heads/main", None, tree, "initial commit", "", self.owner)

    def commit(
        self, ref: str, parent: str | None, tree: Mapping[str, Entry], title: str, description: str, author: str
    ) -> Commit:
        """Add a commit and let `ref` point at it."""
        files = sorted((path, entry.oid) for path, entry in tree.items())
        manifest = json.dumps([self.kind, self.name, parent, title, description, author, time.time_ns(), files])
        sha = hashlib.sha1(manifest.encode()).hexdigest()
        commit = Commit(sha, parent, dict(tree), title, description, author, timestamp())
        self.commits[sha] = commit
        self.refs[ref] = sha
        return commit

    def ref(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request."""
        candidates = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in candidates if name in self.refs), None)

    def at(self, revision: str) -> Commit:
        """The commit of a branch, tag, pull request, or (shortened) commit hash."""
        if ref := self.ref(revision):
            return self.commits[self.refs[ref]]
        if len(revision) >= 7:
            for sha, commit in self.commits.items():
                if sha.startswith(revision):
                    return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str) -> list[Commit]:
        """A commit and those before it, newest first."""
        found = [self.at(revision)]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found

    def open_discussion(self, title: str, author: str) -> int:
        """Its number. The caller makes a pull request of it by setting `refs/pr/<number>`."""
        self.discussions.append({"title": title, "author": author})
        return len(self.discussions)


@dataclass
class Store:
    """Everything that a server holds. `lock` is held by whoever changes something.

    Attributes:
        objects: folder of the large files that came over HTTP, each named by its SHA-256.
        xet_folder: the local storage of hf_xet, for clients that use it.
    """

    objects: Path
    xet_folder: Path | None = None
    tokens: dict[str, User] = field(default_factory=dict)
    organisations: dict[str, frozenset[str]] = field(default_factory=dict)
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    xet_hashes: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add_user(self, name: str, role: str) -> str:
        token = f"hf_{secrets.token_hex(17)}"
        self.tokens[token] = User(name, role)
        return token

    def belongs(self, user: User | None, owner: str) -> bool:
        """Whether a user is, or is a member of, the owner of a repository."""
        return user is not None and (user.name == owner or user.name in self.organisations.get(owner, ()))

    def create(self, kind: str, name: str, private: bool) -> Repository:
        self.repositories[kind, name] = repository = Repository(kind, name, private)
        return repository

    def add(self, path: str, content: bytes) -> Entry:
        """Store a file as an upload would."""
        if not is_large(path, len(content), content[:512]):
            return regular_entry(content)
        sha256 = hashlib.sha256(content).hexdigest()
        (self.objects / sha256).write_bytes(content)
        return lfs_entry(sha256, len(content))

    def holds(self, sha256: str, size: int | None = None) -> bool:
        """Whether a large file is here, by whichever way it came."""
        file = self.objects / sha256
        if file.is_file():
            return size is None or file.stat().st_size == size
        return self.xet_hash(sha256) is not None

    def xet_hash(self, sha256: str) -> str | None:
        """The name of a large file in the storage of hf_xet; `None` when it did not come that way."""
        if sha256 not in self.xet_hashes and self.xet_folder:
            self.xet_hashes.update(xet.stored(self.xet_folder))
        return self.xet_hashes.get(sha256)

    def read(self, entry: Entry) -> bytes:
        """The content of a file."""
        return self.read_object(entry.sha256, entry.size) if entry.content is None else entry.content

    def read_object(self, sha256: str, size: int) -> bytes:
        file = self.objects / sha256
        with self.lock:
            if not file.is_file():
                xet.fetch(self.xet_folder, self.xet_hashes[sha256], size, file)
        return file.read_bytes()
