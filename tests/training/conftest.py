"""Pushes that end in a folder, and pushes to a server on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chartqa_ft.training import pushing

from ..hub_client import Client
from ..project.test_hub_server import World
from ..support.push_world import push_world, run_folder


@pytest.fixture
def pushes_into_a_folder(monkeypatch, tmp_path_factory) -> None:
    """A push copies its files into a fresh folder, and returns it in place of the commit."""

    def push(folder: Path, *_, **__) -> Path:
        return Path(shutil.copytree(folder, tmp_path_factory.mktemp("hub") / "model"))

    monkeypatch.setattr(pushing, "push_checkpoint", push)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    with push_world(tmp_path_factory.mktemp("push"), xet=False) as world:
        yield world


@pytest.fixture(scope="module")
def other(world) -> Iterator[Client]:
    """Another process, whose cache a test empties."""
    with world.process("fresh", token=world.token) as client:
        yield client


@pytest.fixture
def folder(world, request) -> Path:
    return run_folder(world, request.node.name)
