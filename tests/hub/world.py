"""A server, a user with a client process, and how to read both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chartqa_ft.hub.model_files import files_of_model

from ..hub_client import Client, ClientError
from ..hub_server import HubServer, environment
from .folders import OTHER, content

UPLOAD, COMMIT = "/storage/upload/*", "/api/models/*/commit/*"


class World:
    """A server, its user alice, and a process of hers."""

    def __init__(self, folder: Path, *, xet: bool):
        self.folder, self.xet = folder, xet
        self.hub = HubServer(folder / "hub", xet=folder / "cas" if xet else None)
        self.token = self.hub.add_user("alice")
        self.hub.add_organisation("lab", "alice")
        self.client = self.process("home")

    def process(self, home: str) -> Client:
        variables = environment(self.hub, self.folder / home, xet=self.xet, token=self.token)
        return Client(variables, self.folder / f"{home}.log")

    def push(self, folder: Path, name: str, **settings) -> dict:
        return self.client.call("tests.drivers.push_folder.push", folder, name, **settings)

    def refused(self, folder: Path, name: str, **settings) -> str:
        """The message, which says where the files are; they are as before."""
        before = content(folder)
        with pytest.raises(ClientError) as caught:
            self.push(folder, name, **settings)
        assert caught.value.kind == "HubError", caught.value.trace
        assert content(folder) == before
        assert self.token not in caught.value.trace
        assert f"Nothing is lost: the files are kept in {folder}." in caught.value.message
        assert caught.value.message.startswith(f"{name} was not pushed: ")
        return caught.value.message

    def files(self, name: str, **settings) -> dict[str, bytes]:
        files = self.hub.files(name, **settings)
        files.pop(".gitattributes", None)
        return files

    def stored(self) -> set[tuple[str, int]]:
        """What hf_xet has stored, with the time of writing."""
        return {(path.name, path.stat().st_mtime_ns) for path in self.folder.glob("cas/xet/xorbs/xorbs/default.*[!t]")}

    def uploads(self, since: int) -> list:
        """The uploads of weights. The picture of all folders is the same, so that only a hub's first push sends it."""
        picture = hashlib.sha256(OTHER).hexdigest()
        return [one for one in self.hub.matching(UPLOAD, "PUT", since=since) if not one.path.endswith(picture)]


def world_of(folder: Path, *, xet: bool) -> Iterator[World]:
    world = World(folder, xet=xet)
    with world.hub, world.client:
        yield world
    assert world.token not in repr(world.hub.requests)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert world.client.log in written
    assert not [path for path in written if world.token.encode() in path.read_bytes()]


def expected(folder: Path, **settings) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_of_model(folder, **settings).items()}


ALWAYS = {"times": None}
