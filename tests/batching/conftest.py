"""The adapter of the tiny model, which most tests of batches share."""

from __future__ import annotations

import pytest

from chartqa_ft.adapters import Adapter, adapter_for

from ..support.common import tiny


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return adapter_for(*tiny())
