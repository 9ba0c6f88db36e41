"""What all tests share: quick garbage collections, and the optional real data beside the project."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401 (before objects are frozen: it warns of random generators that nothing refers to)
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Keep `--doctest-modules` from importing benchmarks, drivers and support code."""
    return True if collection_path.suffix == ".py" and not collection_path.name.startswith("test_") else None


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through what all tests share: imported modules and collected tests.

    Every training collects garbage at its end (`Accelerator.free_memory`); for a short one that is most of its time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real charts and reference values beside the project; its absence is an error where CI is set."""
    if not SHARED.is_dir():
        message = f"{SHARED} is missing: the tests on real ChartQA charts and reference values cannot run"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message + "; the suite on the project's own data covers the same code")
    return SHARED


@pytest.fixture(autouse=True)
def _one_thread_of_torch() -> Iterator[None]:
    """Scripts set the number of threads for the whole process, and the last bits of a training depend on it."""
    _use_one_thread()
    yield
    _use_one_thread()  # for what the next tests share, too


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log_level_of_transformers() -> Iterator[None]:
    """`Trainer` sets it from its arguments, for all that comes later."""
    logger = logging.getLogger("transformers")
    level = logger.level
    yield
    logger.setLevel(level)
