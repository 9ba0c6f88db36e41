"""Fixtures shared by all tests: no network, one thread per test process, the optional real data beside the project."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="chartqa_ft_tests_")
os.environ["HF_HOME"] = _HOME.name  # what is kept between runs, such as resized charts, goes away with the tests
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real charts and reference values beside the project; its absence is an error where CI is set."""
    if not SHARED.is_dir():
        message = f"{SHARED} is missing: the tests on real ChartQA charts and reference values cannot run"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message + "; the suite on the project's own data covers the same code")
    return SHARED
