"""What all tests of `check_model` share."""

from __future__ import annotations

import pytest

from ...support.model_state import frozen_garbage


@pytest.fixture(autouse=True)
def fast_garbage():
    with frozen_garbage():
        yield
