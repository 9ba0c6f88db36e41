"""An OpenAI-compatible server on loopback that answers well by default, and misbehaves as a test orders.

with ChatStub(answer=lambda body: "3") as stub:
    stub.plan += [status(503), reset]  # what the next two requests get
    ChatServer(stub.url, "m").ask(...)
    assert len(stub.requests) == 3
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler, "ChatStub"], None]


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"][1]["text"]

    @property
    def image_url(self) -> str:
        return self.body["messages"][-1]["content"][0]["image_url"]["url"]


def reply(text: Any, reason: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]}).encode()


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content-length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


# ------------------------------------------------------------------ behaviours
def status(number: int, content: bytes = b"", **headers: str) -> Behaviour:
    return lambda handler, stub: send(handler, number, content, **headers)


def said(content: bytes, **headers: str) -> Behaviour:
    return status(200, content, **headers)


def reset(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    """Drop the connection (RST) without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())  # closing the object would wait for the files on it
    handler.close_connection = True


def cut_off(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    """Close in the middle of the body."""
    send(handler, 200, b'{"choices": [', content_length="1000")
    handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    """Say nothing until the end of the test."""
    stub.released.wait(30)
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    """Send a byte now and then, so that no single read takes long."""
    send(handler, 200, b"{", content_length="1000000")
    try:
        while not stub.released.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    """Send a body without end."""
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    chunk = b"%x\r\n%s\r\n" % (2**16, b" " * 2**16)
    try:
        while not stub.released.is_set():
            handler.wfile.write(chunk)
    except OSError:
        handler.close_connection = True


def redirect(to: str, number: int = 307) -> Behaviour:
    return status(number, location=to)


def echo_headers(handler: BaseHTTPRequestHandler, stub: ChatStub) -> None:
    send(handler, 200, reply(f"you said {handler.headers['authorization']}"))


# ------------------------------------------------------------------ the server
class ChatStub:
    """A server of its own for each test.

    Args:
        answer: the text of an answer to the body of a request.

    Attributes:
        url: the base URL.
        plan: what the next requests get, in the order of their arrival; then they are answered.
        requests: what arrived.
        most: the largest number of requests that were under way at the same time.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], str] = lambda body: "3"):
        self.answer = answer
        self.plan: deque[Behaviour] = deque()
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.most = self._now = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece: the client would acknowledge a part late

            def do_POST(self) -> None:
                stub.handle(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append(Request(handler.path, headers, json.loads(content)))
            behaviour = self.plan.popleft() if self.plan else None
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if behaviour is None:
                send(handler, 200, reply(self.answer(json.loads(content))))
            else:
                behaviour(handler, self)
        finally:
            with self._lock:
                self._now -= 1

    def __enter__(self) -> ChatStub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
