"""A Hugging Face Hub on loopback, for the real clients: huggingface_hub, transformers, datasets, peft.

    with HubServer(tmp_path / "hub") as hub:
        token = hub.add_user("alice")
        hub.upload("bob/base", {"config.json": b"{}"})
        hub.fail("/storage/upload/*", how="reset", after_bytes=1000)
        subprocess.run(..., env=environment(hub, tmp_path / "home", token=token))
        assert hub.files("alice/model")["README.md"] == ...

It stands on the standard library, PyYAML, and hf_xet where files came by xet. The clients read HF_ENDPOINT when they
are imported, so what is tested runs in a process of its own, with the variables of `environment`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Literal

from .hub_server_parts import (
    contents,  # noqa: F401  (they register their endpoints)
    objects,  # noqa: F401  (they register their endpoints)
    repositories,  # noqa: F401  (they register their endpoints)
)
from .hub_server_parts.exchange import HOW, Fault, Forgery, Listener, Request, Shared
from .hub_server_parts.store import KINDS, Commit, Repository, Store

ROOT = Path(__file__).resolve().parents[1]
__all__ = ["HubServer", "Request", "environment"]


class HubServer:
    """A server of its own for each test or module, as a context manager.

    Args:
        root: folder for large files; made when missing.
        xet: folder that clients with hf_xet store into (`environment(xet=True)`); `None` speaks git LFS alone.
        multipart_chunk: bytes above which a large file is asked for in parts; `None` takes any in one piece.

    Attributes:
        url: what HF_ENDPOINT has to be.
        requests: the log, oldest first, one line for each request from its arrival on.
    """

    def __init__(self, root: Path, *, xet: Path | None = None, multipart_chunk: int | None = None):
        folders = [root / "objects", *([xet] if xet else [])]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._store = Store(folders[0], xet)
        self._shared = Shared(self._store, multipart_chunk)
        self._listener = Listener(self._shared)
        port = self._listener.server_address[1]
        self.url = self._shared.url = f"http://127.0.0.1:{port}"
        # To a client this is another host, as the storage behind the real Hub is: it must not be sent the token.
        self._shared.storage_url = f"http://localhost:{port}"
        self.requests: list[Request] = self._shared.requests

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shared.released.set()
        self._listener.shutdown()
        self._listener.server_close()
        if error is None and self._shared.bugs:
            raise AssertionError("the hub server itself failed") from self._shared.bugs[0]

    # ---------------------------------------------------------------- what is on the hub

    def add_user(self, name: str, role: Literal["read", "write"] = "write") -> str:
        """A new token of a user; one user may have several."""
        return self._store.add_user(name, role)

    def add_organisation(self, name: str, *members: str) -> None:
        """An organisation whose members may write to all its repositories."""
        self._store.organisations[name] = frozenset(members)

    def create_repo(self, name: str, *, repo_type: str = "model", private: bool = False) -> None:
        """A repository `owner/name` with its first commit. `repo_type` is `"model"` or `"dataset"`."""
        if repo_type not in KINDS or (repo_type, name) in self._store.repositories or name.count("/") != 1:
            raise ValueError(f"{repo_type} {name!r} exists already, or is no repository of type {KINDS}")
        self._store.create(repo_type, name, private)

    def upload(
        self,
        name: str,
        files: Mapping[str, bytes] | Path,
        *,
        repo_type: str = "model",
        revision: str = "main",
        message: str = "Upload files",
    ) -> str:
        """Commit files, path -> content or all of a folder; makes a missing repository or branch. Returns the hash."""
        if isinstance(files, Path):
            found = sorted(path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        with self._store.lock:
            if (repo_type, name) not in self._store.repositories:
                self.create_repo(name, repo_type=repo_type)
            repository = self._repository(name, repo_type)
            ref = repository.ref(revision) or f"refs/heads/{revision}"
            head = repository.at(ref if ref in repository.refs else "main")
            tree = {**head.tree, **{path: self._store.add(path, content) for path, content in files.items()}}
            return repository.commit(ref, head.sha, tree, message, "", repository.owner).sha

    def exists(self, name: str, *, repo_type: str = "model") -> bool:
        return (repo_type, name) in self._store.repositories

    def is_private(self, name: str, *, repo_type: str = "model") -> bool:
        return self._repository(name, repo_type).private

    def files(self, name: str, *, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """Path -> content at a branch, tag, pull request (`"refs/pr/1"`) or commit, large files included."""
        tree = self._repository(name, repo_type).at(revision).tree
        return {path: self._store.read(entry) for path, entry in tree.items()}

    def commits(self, name: str, *, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """Newest first; the last one is the server's own, with `.gitattributes` alone."""
        return self._repository(name, repo_type).history(revision)

    def refs(self, name: str, *, repo_type: str = "model") -> dict[str, str]:
        """`refs/heads/main`, `refs/tags/...`, `refs/pr/1` -> commit hash."""
        return dict(self._repository(name, repo_type).refs)

    def _repository(self, name: str, repo_type: str) -> Repository:
        return self._store.repositories[repo_type, name]

    # ---------------------------------------------------------------- faults and the log

    def fail(
        self,
        pattern: str,
        *,
        how: Literal["status", "reset", "close", "lost", "hold"] = "status",
        status: int = 503,
        method: str | None = None,
        times: int | None = 1,
        skip: int = 0,
        retry_after: int | None = None,
        after_bytes: int = 0,
    ) -> Fault:
        """Let the next requests fail whose path matches.

        Args:
            pattern: of the unquoted path without query; `*` goes across slashes. Large files are sent to
                `/storage/upload/<sha256>` and come from `/storage/download/<sha256>/<size>/<repository>/<path>`.
            how: `"status"` answers with an error; `"reset"` (RST) and `"close"` (FIN) drop the connection in the body
                of the request or, where it has none, in that of the answer; `"lost"` does what was asked and closes
                without an answer; `"hold"` never answers, so that a test can kill the client at this very point.
            status: of the answer. 429 with `retry_after` seconds is the rate limit.
            method: `"GET"`, ...; any when `None`.
            times: how many requests fail; `None` for all.
            skip: how many go through first.
            after_bytes: of the body, before the connection is dropped.

        Returns:
            the order, whose `left` tells how many failures are still to come.
        """
        if how not in HOW:
            raise ValueError(f"{how=} is none of {HOW}")
        fault = Fault(pattern, method, how, status, times, skip, retry_after, after_bytes)
        with self._shared.changed:
            self._shared.faults.append(fault)
        return fault

    def forge(
        self,
        pattern: str,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        change: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Answer requests whose path matches with other headers, or another body, until `mend`.

        Args:
            pattern: as in `fail`.
            method: `"GET"`, ...; any when `None`.
            headers: they replace those of the answer.
            change: makes the body that is sent of the true one, for `HEAD` too.
        """
        with self._shared.changed:
            self._shared.forgeries.append(Forgery(pattern, method, headers or {}, change))

    def mend(self) -> None:
        """Forget all orders to fail and to forge; requests on hold are dropped."""
        with self._shared.changed:
            self._shared.faults.clear()
            self._shared.forgeries.clear()
            self._shared.released.set()
            self._shared.released = threading.Event()

    def matching(self, pattern: str, method: str | None = None, *, since: int = 0) -> list[Request]:
        """The lines of the log whose path matches, oldest first, without the first `since` of all lines."""
        lines = self.requests[since:]
        return [one for one in lines if method in (None, one.method) and fnmatchcase(one.path, pattern)]

    def wait_for(self, pattern: str, method: str | None = None, *, timeout: float = 60) -> Request:
        """The first request that matches, as soon as it arrives.

        Raises:
            TimeoutError: none came within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._shared.changed:
            while not (found := self.matching(pattern, method)):
                if not self._shared.changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no request {method or ''} {pattern} within {timeout} s")
        return found[0]


def environment(
    server: HubServer | None,
    home: Path,
    *,
    xet: bool = False,
    offline: bool = False,
    token: str | None = None,
) -> dict[str, str]:
    """Variables of a process that knows no other Hub than this one: nothing of the user's own settings, no proxy.

    Args:
        server: `None` for a process that must not need any.
        home: folder of the process's cache; an empty one for an empty cache.
        xet: use hf_xet, as the clients do by default; the server needs a folder for it.
        offline: forbid any request.
        token: what the process is logged in with.
    """
    outer = ("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(outer) and not name.lower().endswith("_proxy")
    }
    ours = {
        # A port where nobody listens, so that a request fails at once.
        "HF_ENDPOINT": server.url if server else "http://127.0.0.1:9",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        # hf_xet otherwise tries for minutes to get a token from a server that fails.
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT),
    }
    return kept | ours | ({"HF_TOKEN": token} if token else {})
