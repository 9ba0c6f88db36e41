"""Endpoints of large-file storage: git LFS over HTTP in one piece or in parts, and the way to the storage of xet."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import xet
from .contents import send_content, writable
from .exchange import API, Exchange, route
from .store import HubError

_SHA256 = "(?P<sha256>[0-9a-f]{64})"


@route("POST", r"/(?:(?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
def batch(exchange: Exchange, kind: str | None, name: str) -> None:
    """Tell where each large file is to be sent; what is here already gets no address and is not sent again."""
    exchange.repository(kind or "model", name, contribute=True)
    wish = exchange.json()
    chunk = exchange.shared.multipart_chunk if "multipart" in wish.get("transfers", []) else None
    found, transfer = [], "basic"
    for one in wish["objects"]:
        sha256, size = one["oid"], one["size"]
        answer: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
        if not exchange.store.holds(sha256, size):
            upload = {"href": f"{exchange.shared.storage_url}/storage/upload/{sha256}", "header": {}}
            if chunk and size > chunk:
                transfer = "multipart"
                parts = {str(part): f"{upload['href']}/{part}" for part in range(1, -(-size // chunk) + 1)}
                href = f"{exchange.shared.url}/storage/complete/{sha256}"
                upload = {"href": href, "header": {"chunk_size": str(chunk), **parts}}
            verify = {"href": f"{exchange.shared.url}/storage/verify", "header": {}}
            answer["actions"] = {"upload": upload, "verify": verify}
        found.append(answer)
    exchange.send(200, {"transfer": transfer, "objects": found})


@route("PUT", f"/storage/upload/{_SHA256}(?:/(?P<part>[0-9]+))?")
def upload(exchange: Exchange, sha256: str, part: str | None) -> None:
    name = f"{sha256}.{part}" if part else sha256
    digest = _store(exchange, exchange.chunks(), name, None if part else sha256)
    exchange.send(200, b"", {"ETag": f'"{digest}"'})


@route("POST", f"/storage/complete/{_SHA256}")
def complete(exchange: Exchange, sha256: str) -> None:
    numbers = sorted(part["partNumber"] for part in exchange.json()["parts"])
    files = [exchange.store.objects / f"{sha256}.{number}" for number in numbers]
    _store(exchange, (file.read_bytes() for file in files), sha256, sha256)
    for file in files:
        file.unlink()
    exchange.send(200, {})


def _store(exchange: Exchange, chunks: Iterable[bytes], name: str, expected: str | None) -> str:
    """Write a file that is seen only once it is whole; returns its SHA-256."""
    target: Path = exchange.store.objects / name
    partial = target.with_name(f"{name}.{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        if expected not in (None, digest.hexdigest()):
            raise HubError(400, "BadDigest: the content does not have the announced SHA-256")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


@route("POST", "/storage/verify")
def verify(exchange: Exchange) -> None:
    wish = exchange.json()
    if not exchange.store.holds(wish["oid"], wish["size"]):
        raise HubError(404, "Object does not exist")
    exchange.send(200, {})


@route("GET", rf"/storage/download/{_SHA256}/(?P<size>\d+)/.+")
def download(exchange: Exchange, sha256: str, size: str) -> None:
    """The address carries the name of the file too, so that tests can order a fault of just this one."""
    send_content(exchange, exchange.store.read_object(sha256, int(size)), {"ETag": f'"{sha256}"'})


@route("GET", API + "/xet-(?P<access>read|write)-token(?:/(?P<revision>[^/]+))?")
def xet_token(exchange: Exchange, kind: str, name: str, access: str, revision: str | None) -> None:
    """Send hf_xet to the folder that stands for its storage."""
    if access == "write":
        writable(exchange, kind, name, revision or "main")
    else:
        exchange.repository(kind, name)
    folder = exchange.store.xet_folder
    if folder is None:
        raise HubError(404, "this server has no xet storage")
    expiry = int(time.time()) + 3600
    exchange.send(
        200,
        {"casUrl": xet.address(folder), "exp": expiry, "accessToken": "local"},
        {
            "X-Xet-Cas-Url": xet.address(folder),
            "X-Xet-Access-Token": "local",
            "X-Xet-Token-Expiration": str(expiry),
        },
    )
