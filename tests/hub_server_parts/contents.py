"""Endpoints about the files of a repository: listing, committing, and where each is downloaded from."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from .exchange import API, Exchange, route
from .store import Entry, HubError, Repository, git_oid, is_large, lfs_entry, regular_entry


@route("GET", API + "/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
def tree(exchange: Exchange, kind: str, name: str, revision: str, folder: str | None) -> None:
    files = exchange.repository(kind, name).at(revision).tree
    recursive = exchange.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, entry in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            parent = prefix + "/".join(parts[:depth])
            found.setdefault(parent, _folder(parent))
        if recursive or len(parts) == 1:
            found[path] = _file(exchange, path, entry)
    if folder and not found:
        raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    exchange.send(200, list(found.values()))


@route("POST", API + "/paths-info/(?P<revision>[^/]+)")
def paths_info(exchange: Exchange, kind: str, name: str, revision: str) -> None:
    body = exchange.body().decode()
    paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
    files = exchange.repository(kind, name).at(revision).tree
    found = []
    for path in paths:
        if path in files:
            found.append(_file(exchange, path, files[path]))
        elif any(file.startswith(path.rstrip("/") + "/") for file in files):
            found.append(_folder(path.rstrip("/")))
    exchange.send(200, found)


def _file(exchange: Exchange, path: str, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
    if entry.sha256:
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
        if xet_hash := exchange.store.xet_hash(entry.sha256):
            found["xetHash"] = xet_hash
    return found


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())}


# ---------------------------------------------------------------- upload


def writable(exchange: Exchange, kind: str, name: str, revision: str) -> Repository:
    """The repository, if the one who asks may commit to this revision of it, or open a pull request as asked."""
    to_pull_request = "create_pr" in exchange.query or revision.startswith("refs/pr/")
    return exchange.repository(kind, name, write=not to_pull_request, contribute=to_pull_request)


@route("POST", API + "/preupload/(?P<revision>[^/]+)")
def preupload(exchange: Exchange, kind: str, name: str, revision: str) -> None:
    """Tell which files go to large-file storage, and what is here already: by that the client skips what is equal."""
    files = writable(exchange, kind, name, revision).at(revision).tree
    found = []
    for wish in exchange.json()["files"]:
        path, sample = wish["path"], base64.b64decode(wish.get("sample") or "")
        mode = "lfs" if is_large(path, wish["size"], sample) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        if entry := files.get(path):
            answer["oid"] = entry.sha256 or entry.oid
        found.append(answer)
    exchange.send(200, {"files": found})


@route("POST", API + "/commit/(?P<revision>[^/]+)")
def commit(exchange: Exchange, kind: str, name: str, revision: str) -> None:
    repository = writable(exchange, kind, name, revision)
    user = exchange.known_user()
    lines = [json.loads(line) for line in exchange.body().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    answer: dict[str, Any] = {"success": True, "hookOutput": ""}
    with exchange.store.lock:
        head = repository.at(revision)
        if not head.sha.startswith(header.get("parentCommit") or ""):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = _changed(exchange, head.tree, lines)
        ref = repository.ref(revision)
        if "create_pr" in exchange.query:
            number = repository.open_discussion(header["summary"], user.name)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{_page(exchange, repository)}/discussions/{number}"
        if ref is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        made = repository.commit(ref, head.sha, files, header["summary"], header.get("description", ""), user.name)
    answer |= {"commitOid": made.sha, "commitUrl": f"{_page(exchange, repository)}/commit/{made.sha}"}
    exchange.send(200, answer)


def _page(exchange: Exchange, repository: Repository) -> str:
    return f"{exchange.shared.url}/{'' if repository.kind == 'model' else 'datasets/'}{repository.name}"


def _changed(exchange: Exchange, files: Mapping[str, Entry], lines: list[dict[str, Any]]) -> dict[str, Entry]:
    """The files after the operations of a commit."""
    files = dict(files)
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "header":
            continue
        path = value["path"]
        if key == "file":
            files[path] = regular_entry(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            oid = value["oid"]
            if not exchange.store.holds(oid):
                raise HubError(400, f"Your push was rejected: LFS object {oid} of {path} does not exist")
            # A copy of a file that is here names no size.
            known = (entry.size for entry in files.values() if entry.sha256 == oid)
            files[path] = lfs_entry(oid, value["size"] if value.get("size") is not None else next(known))
        elif key in ("deletedFile", "deletedFolder"):
            folder = path.rstrip("/") + "/"
            gone = [file for file in files if file == path or (key == "deletedFolder" and file.startswith(folder))]
            if not gone:
                raise HubError(404, f"{path} does not exist", "EntryNotFound")
            for file in gone:
                del files[file]
        else:
            raise HubError(400, f"unknown operation {key}")
    return files


# ---------------------------------------------------------------- download


@route("GET", "/(?:(?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(exchange: Exchange, kind: str | None, name: str, revision: str, path: str) -> None:
    """Small files come from here, large ones from another origin, which must not be told the token."""
    kind = kind or "model"
    commit = exchange.repository(kind, name).at(revision)
    entry = commit.tree.get(path)
    headers = {"X-Repo-Commit": commit.sha}
    if entry is None:  # with the commit, the client remembers that there is no such file
        raise HubError(404, "Entry not found", "EntryNotFound", headers=headers)
    headers["ETag"] = f'"{entry.oid}"'
    if entry.sha256 is None:
        send_content(exchange, entry.content, headers)
        return
    headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if xet_hash := exchange.store.xet_hash(entry.sha256):
        tokens = f"{exchange.shared.url}/api/{kind}s/{name}/xet-read-token/{commit.sha}"
        headers |= {"X-Xet-Hash": xet_hash, "X-Xet-Refresh-Route": tokens, "Link": f'<{tokens}>; rel="xet-auth"'}
    target = f"{exchange.shared.storage_url}/storage/download/{entry.sha256}/{entry.size}/{name}/{quote(path)}"
    exchange.send(302, b"", {**headers, "Location": target})


def send_content(exchange: Exchange, content: bytes, headers: Mapping[str, str]) -> None:
    """A file, or the range of it that is asked for."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.request_log.headers.get("range", ""))
    if not wanted:
        exchange.send(200, content, headers)
        return
    first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
    if first >= len(content):
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    exchange.send(206, content[first : last + 1], headers)
