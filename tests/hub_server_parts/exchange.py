"""One HTTP request and its answer: reading, sending, who asks, the log, and the faults that tests order."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .store import HubError, Repository, Store, User

API = r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)"
"""The start of an address about one repository, as a regular expression."""
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., None]]] = []
HOW = ("status", "reset", "close", "lost", "hold")


@dataclass
class Request:
    """A line of the log.

    Attributes:
        method: `"GET"`, ...
        path: without the query, unquoted.
        query: as sent.
        host: the origin that was asked, `127.0.0.1:port` or, playing the storage behind the hub, `localhost:port`.
        headers: names in lower case; a token is masked.
        user: whose token came with it.
        status: of the answer; `None` while there is none, or when a fault dropped the connection before it.
        received: bytes of the body that came.
        sent: bytes of the body of the answer.
        fault: the kind of fault that it met.
    """

    method: str
    path: str
    query: str
    host: str
    headers: dict[str, str]
    user: str | None = None
    status: int | None = None
    received: int = 0
    sent: int = 0
    fault: str | None = None


@dataclass
class Fault:
    """An order to fail; see `HubServer.fail`. `left` and `skip` count down; `left` of `None` never ends."""

    pattern: str
    method: str | None
    how: str
    status: int
    left: int | None
    skip: int
    retry_after: int | None
    after_bytes: int

    def takes(self, method: str, path: str) -> bool:
        """Whether this request fails; counts it."""
        if self.left == 0 or self.method not in (None, method) or not fnmatchcase(path, self.pattern):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass
class Forgery:
    """An order to answer something else than the truth; see `HubServer.forge`."""

    pattern: str
    method: str | None
    headers: Mapping[str, str]
    change: Callable[[bytes], bytes] | None

    def takes(self, method: str, path: str) -> bool:
        return self.method in (None, method) and fnmatchcase(path, self.pattern)


@dataclass
class Shared:
    """What the exchanges of a server have in common."""

    store: Store
    multipart_chunk: int | None = None
    url: str = ""
    storage_url: str = ""
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    forgeries: list[Forgery] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    released: threading.Event = field(default_factory=threading.Event)
    bugs: list[BaseException] = field(default_factory=list)


class Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, shared: Shared):
        super().__init__(("127.0.0.1", 0), Exchange)
        self.shared = shared

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that were killed leave broken connections: nothing to report."""


def route(method: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register an endpoint: `function(exchange, **groups of the pattern, unquoted)`. GET serves HEAD as well."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        _ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


class _Dropped(Exception):
    """The connection is gone, as ordered."""


class Exchange(BaseHTTPRequestHandler):
    """Serves the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    @property
    def shared(self) -> Shared:
        return self.server.shared

    @property
    def store(self) -> Store:
        return self.shared.store

    def log_message(self, *arguments: Any) -> None:
        pass

    # ---------------------------------------------------------------- one request

    def _handle(self) -> None:
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        self._unread = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token:
            headers["authorization"] = "Bearer ***"
        self._user = self.store.tokens.get(token)
        self.request_log = Request(
            self.command, unquote(address.path), address.query, headers.get("host", ""), headers
        )
        self.request_log.user = self._user.name if self._user else None
        with self.shared.changed:
            self.shared.requests.append(self.request_log)
            faults = self.shared.faults
            self._fault = next((one for one in faults if one.takes(self.command, self.request_log.path)), None)
            self.shared.changed.notify_all()
        try:
            self._answer(address.path)
        except HubError as error:
            self.send(error.status, error.body, error.headers)
        except (_Dropped, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:  # a mistake of the server must not look like a dropped connection
            self.shared.bugs.append(error)
            self.send(500, {"error": repr(error)})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _answer(self, path: str) -> None:
        if self._fault:
            self._fail(self._fault)
        wanted = "GET" if self.command == "HEAD" else self.command
        for method, pattern, function in _ROUTES:
            if method == wanted and (match := pattern.fullmatch(path)):
                return function(self, **{name: text and unquote(text) for name, text in match.groupdict().items()})
        raise HubError(404, "Not found")

    # ---------------------------------------------------------------- faults

    def _fail(self, fault: Fault) -> None:
        """What a fault does before the request is served; the rest is done by `send`."""
        self.request_log.fault = fault.how
        if fault.how == "status":
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            raise HubError(fault.status, "ordered by a test", headers=wait)
        if fault.how == "hold":
            self.shared.released.wait()
            self._drop()
        if fault.how in ("reset", "close") and self._length():
            for _ in self.chunks():
                if self.request_log.received >= fault.after_bytes:
                    break
            self._drop()

    def _drop(self) -> None:
        """End the connection: with a reset (RST), or as a peer that just stops (FIN)."""
        if self._fault and self._fault.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise _Dropped

    # ---------------------------------------------------------------- bodies

    def _length(self) -> int:
        """Bytes of the body. The clients announce them; none sends in chunks."""
        return int(self.headers.get("Content-Length") or 0)

    def chunks(self) -> Iterator[bytes]:
        """The body of the request in pieces; an incomplete one ends the request."""
        self._unread = False
        left = self._length()
        while left and (chunk := self.rfile.read1(min(left, 1 << 16))):
            left -= len(chunk)
            self.request_log.received += len(chunk)
            yield chunk
        if left:  # the client went away
            raise _Dropped

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def json(self) -> dict[str, Any]:
        return json.loads(self.body() or b"{}")

    def send(
        self,
        status: int,
        body: bytes | dict[str, Any] | list[Any] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer. What is not `bytes` goes as JSON."""
        if self._unread:
            for _ in self.chunks():
                pass
        if self._fault and self._fault.how == "lost":
            self._drop()
        headers = dict(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json; charset=utf-8"
        for forgery in self.shared.forgeries:
            if forgery.takes(self.command, self.request_log.path):
                body = forgery.change(body) if forgery.change else body
                headers.update(forgery.headers)
        self.request_log.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self._fault is not None and self._fault.how in ("reset", "close")
        if cut:
            body = body[: self._fault.after_bytes]
        if self.command != "HEAD":
            self.request_log.sent = len(body)
            self.wfile.write(body)
        if cut:
            self._drop()

    # ---------------------------------------------------------------- who asks, and for what

    def user(self) -> User | None:
        """Whose token came with the request; `None` without one. An unknown token is an error, as on the Hub."""
        if "authorization" in self.request_log.headers and self._user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self._user

    def known_user(self) -> User:
        user = self.user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        return user

    def repository(self, kind: str, name: str, *, write: bool = False, contribute: bool = False) -> Repository:
        """A repository, if the one who asks may see it.

        Args:
            write: and may change it.
            contribute: and may open pull requests: whoever may see it, with a token that may write.
        """
        user = self.user()
        repository = self.store.repositories.get((kind, name))
        hidden = repository is None or (repository.private and not self.store.belongs(user, repository.owner))
        if hidden:  # one code for what is missing and what is private, so that names do not leak
            raise HubError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write or contribute:
            user = self.known_user()
            if write and not self.store.belongs(user, repository.owner):
                raise HubError(403, "Authorization error.")
            if user.role != "write":
                raise HubError(403, "Forbidden: you must use a write token to upload to a repository.")
        return repository
