"""Each folder of golden values, loaded once."""

from __future__ import annotations

import pytest

from ...support.legacy import GOLDEN, Case

OWN = ["modern", "ancient"]


@pytest.fixture(scope="package")
def own_cases() -> dict[str, Case]:
    return {name: Case(GOLDEN / name) for name in OWN}


@pytest.fixture(scope="package", params=[*OWN, "fixture"])
def case(request: pytest.FixtureRequest, own_cases: dict[str, Case]) -> Case:
    if request.param in OWN:
        return own_cases[request.param]
    if "fixture" not in own_cases:
        own_cases["fixture"] = Case(request.getfixturevalue("shared") / "legacy" / "fixture")
    return own_cases["fixture"]


@pytest.fixture(scope="package", params=OWN)
def own(request: pytest.FixtureRequest, own_cases: dict[str, Case]) -> Case:
    return own_cases[request.param]
