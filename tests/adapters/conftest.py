"""The adapter of the tiny model."""

from __future__ import annotations

import pytest

from chartqa_ft.adapters import adapter_for

from ..support.common import tiny


@pytest.fixture(scope="module")
def adapter():
    return adapter_for(*tiny())
