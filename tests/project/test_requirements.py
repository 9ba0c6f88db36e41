"""What setup.cfg admits is what the tests run on.

Its floors are the pins of `make test-oldest`, those of `make test` fit it, and `make test-newest` pins torch alone.
"""

from __future__ import annotations

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def wanted(*extras: str) -> dict[str, Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].split("\n")
    for extra in extras:
        lines += setup["options.extras_require"][extra].split("\n")
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pinned(name: str) -> dict[str, Version]:
    lines = (ROOT / "tests" / "constraints" / name).read_text(encoding="utf-8").split("\n")
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_the_oldest_packages_are_the_floors():
    requirements, pins = wanted("test"), pinned("oldest.txt")
    floors = {}
    for package, requirement in requirements.items():
        (bound,) = (part for part in requirement.specifier if part.operator != "!=")
        assert bound.operator == ">=", requirement
        floors[package] = Version(bound.version)
    assert floors == {package: pins[package] for package in floors}


def test_the_current_packages_are_admitted():
    requirements, pins = (
        wanted("test", "quality", "bench", "app", "trackers", "text", "rl", "search"),
        pinned("current.txt"),
    )
    assert not [str(wish) for package, wish in requirements.items() if pins[package] not in wish.specifier]


def test_the_newest_packages_are_held_back_by_torch_alone():
    assert pinned("newest.txt") == {"torch": pinned("current.txt")["torch"]}


def test_the_current_pillow_is_one_that_gradio_and_trackio_accept():
    assert pinned("current.txt")["pillow"] < Version("13")
