"""Environment of all tests and examples: no network, one thread per process, a home of their own."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="chartqa_ft_tests_")
os.environ["HF_HOME"] = _HOME.name  # what is kept between runs, such as resized charts, goes away with the tests
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

if os.environ.get("CHARTQA_FAMILIES") == "torchvision":
    from tests.support import torchvision_operators  # noqa: F401  # before anything imports torchvision
