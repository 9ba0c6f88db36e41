"""Fixtures for the tests of the data room: an own cache, a folder of charts, a Hub server with its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from chartqa_ft import synthetic_chartqa

from ..project.test_hub_server import World
from ..support.chart_records import (
    write_images,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing that a test loads is taken from, or left in, the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder whose name says nothing about a split, with two charts in images/."""
    folder = tmp_path / "charts"
    write_images(folder / "images", a=10, b=20)
    return folder


@pytest.fixture(params=[False, True], ids=["loaded", "streamed"])
def streaming(request) -> bool:
    return request.param


@pytest.fixture(scope="package")
def lfs(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("lfs"), xet=False) as world:
        yield world
        assert_no_token_left(world)


@pytest.fixture(scope="package")
def xet(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("xet"), xet=True) as world:
        yield world
        assert_no_token_left(world)


@pytest.fixture(scope="package")
def offline(lfs) -> Iterator:
    """A process that shares the cache of `lfs` and must not ask the Hub."""
    with lfs.process("home", offline=True) as client:
        yield client


def assert_no_token_left(world: World) -> None:
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert world.client.log in files
    assert not [path for path in files if world.token.encode() in path.read_bytes()]


@pytest.fixture(scope="package")
def charts() -> Dataset:
    return (
        synthetic_chartqa(3, seed=2)
        .select(range(0, 27, 3))
        .select_columns(["image", "question", "answer", "source", "chart_id"])
    )
