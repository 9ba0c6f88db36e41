"""Endpoints about accounts, repositories, their branches and tags, and pull requests."""

from __future__ import annotations

import re
from typing import Any

import yaml

from .exchange import API, Exchange, route
from .store import KINDS, Entry, HubError, Repository, timestamp

_FRONT_MATTER = re.compile(rb"---\r?\n(.*?)\r?\n---", re.DOTALL)


@route("GET", "/api/whoami-v2")
def whoami(exchange: Exchange) -> None:
    user = exchange.known_user()
    organisations = exchange.store.organisations.items()
    exchange.send(
        200,
        {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": name} for name, members in organisations if user.name in members],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role}},
        },
    )


@route("POST", "/api/repos/create")
def create(exchange: Exchange) -> None:
    user, wish = exchange.known_user(), exchange.json()
    owner, kind = wish.get("organization") or user.name, wish.get("type") or "model"
    name = f"{owner}/{wish['name']}"
    if kind not in KINDS:
        raise HubError(400, f"Invalid repo type: {kind}")
    url = f"{exchange.shared.url}/{'' if kind == 'model' else kind + 's/'}{name}"
    if not exchange.store.belongs(user, owner) or user.role != "write":
        raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}".')
    with exchange.store.lock:
        if (kind, name) in exchange.store.repositories:  # exist_ok=True reads the address in this error
            message = f"You already created this {kind} repo: {name}"
            raise HubError(409, message, extra={"url": url, "name": name})
        private = bool(wish.get("private")) or wish.get("visibility") == "private"
        exchange.store.create(kind, name, private)
    exchange.send(200, {"url": url, "name": name, "id": name})


@route("DELETE", "/api/repos/delete")
def delete(exchange: Exchange) -> None:
    user, wish = exchange.known_user(), exchange.json()
    kind, name = wish.get("type") or "model", f"{wish.get('organization') or user.name}/{wish['name']}"
    with exchange.store.lock:
        exchange.repository(kind, name, write=True)
        del exchange.store.repositories[kind, name]
    exchange.send(200, {})


@route("POST", "/api/validate-yaml")
def validate_yaml(exchange: Exchange) -> None:
    """Cards are checked here before each commit of a README.md; the client reads the body of errors, too."""
    found = _FRONT_MATTER.match(exchange.json().get("content", "").encode())
    errors = []
    try:
        if found and not isinstance(yaml.safe_load(found[1]), dict):
            errors.append({"message": "the metadata is no mapping"})
    except yaml.YAMLError as error:
        errors.append({"message": str(error)})
    warnings = [] if found else [{"message": "empty or missing yaml metadata in repo card"}]
    exchange.send(400 if errors else 200, {"errors": errors, "warnings": warnings})


@route("GET", API + "(?:/revision/(?P<revision>[^/]+))?")
def info(exchange: Exchange, kind: str, name: str, revision: str | None) -> None:
    repository = exchange.repository(kind, name)
    commit = repository.at(revision or "main")
    card = _card(commit.tree.get("README.md"))
    exchange.send(
        200,
        {
            "_id": name,
            "id": name,
            "modelId": name,
            "author": repository.owner,
            "sha": commit.sha,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags") or [],
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "model-index": card.get("model-index"),
            "cardData": card,
            "siblings": [
                _sibling(path, entry, "blobs" in exchange.query) for path, entry in sorted(commit.tree.items())
            ],
            "createdAt": repository.history("main")[-1].date,
            "lastModified": commit.date,
        },
    )


def _sibling(path: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    sibling = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    if entry.sha256:
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
    return sibling


def _card(entry: Entry | None) -> dict[str, Any]:
    """The metadata at the top of README.md; none when they cannot be read."""
    found = _FRONT_MATTER.match(entry.content) if entry and entry.content else None
    try:
        card = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        card = None
    return card if isinstance(card, dict) else {}


# ---------------------------------------------------------------- branches, tags, history


@route("GET", API + "/refs")
def refs(exchange: Exchange, kind: str, name: str) -> None:
    repository = exchange.repository(kind, name)

    def under(prefix: str) -> list[dict[str, str]]:
        found = [(ref, sha) for ref, sha in repository.refs.items() if ref.startswith(prefix)]
        return [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha} for ref, sha in found]

    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
    exchange.send(200, {"converts": [], **{key: under(prefix) for key, prefix in kinds.items()}})


@route("GET", API + "/commits/(?P<revision>[^/]+)")
def commits(exchange: Exchange, kind: str, name: str, revision: str) -> None:
    history = exchange.repository(kind, name).history(revision)
    exchange.send(
        200,
        [
            {
                "id": commit.sha,
                "title": commit.title,
                "message": commit.description,
                "date": commit.date,
                "authors": [{"user": commit.author}],
            }
            for commit in history
        ],
    )


@route("POST", API + "/branch/(?P<branch>[^/]+)")
def create_branch(exchange: Exchange, kind: str, name: str, branch: str) -> None:
    repository = exchange.repository(kind, name, write=True)
    _add_ref(exchange, repository, f"refs/heads/{branch}", exchange.json().get("startingPoint") or "main")


@route("POST", API + "/tag/(?P<revision>[^/]+)")
def create_tag(exchange: Exchange, kind: str, name: str, revision: str) -> None:
    repository = exchange.repository(kind, name, write=True)
    _add_ref(exchange, repository, f"refs/tags/{exchange.json()['tag']}", revision)


def _add_ref(exchange: Exchange, repository: Repository, ref: str, revision: str) -> None:
    with exchange.store.lock:
        if ref in repository.refs:
            raise HubError(409, f"Reference already exists: {ref}")
        repository.refs[ref] = repository.at(revision).sha
    exchange.send(201, {})


@route("DELETE", API + "/(?P<what>branch|tag)/(?P<short>[^/]+)")
def delete_ref(exchange: Exchange, kind: str, name: str, what: str, short: str) -> None:
    repository = exchange.repository(kind, name, write=True)
    with exchange.store.lock:
        if repository.refs.pop(f"refs/{'heads' if what == 'branch' else 'tags'}/{short}", None) is None:
            raise HubError(404, f"Invalid rev id: {short}", "RevisionNotFound")
    exchange.send(200, {})


# ---------------------------------------------------------------- pull requests


@route("POST", API + "/discussions")
def open_discussion(exchange: Exchange, kind: str, name: str) -> None:
    """An empty pull request, which `upload_folder(create_pr=True)` opens first when it goes through xet."""
    repository, wish = exchange.repository(kind, name, contribute=True), exchange.json()
    with exchange.store.lock:
        number = repository.open_discussion(wish["title"], exchange.known_user().name)
        if wish.get("pullRequest"):
            repository.refs[f"refs/pr/{number}"] = repository.at("main").sha
    exchange.send(200, {"num": number})


@route("GET", API + r"/discussions/(?P<number>\d+)")
def discussion(exchange: Exchange, kind: str, name: str, number: str) -> None:
    repository = exchange.repository(kind, name)
    if not 1 <= int(number) <= len(repository.discussions):
        raise HubError(404, "Discussion not found")
    found = repository.discussions[int(number) - 1]
    exchange.send(
        200,
        {
            "title": found["title"],
            "num": int(number),
            "author": {"name": found["author"]},
            "createdAt": timestamp(),
            "status": "draft",
            "repo": {"name": name, "type": kind},
            "isPullRequest": f"refs/pr/{number}" in repository.refs,
            "events": [],
            "changes": {"base": "refs/heads/main"},
            "filesWithConflicts": [],
            "diff": "",
        },
    )
