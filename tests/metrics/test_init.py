"""The metrics package: what it imports and which names it has."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_importing_the_metric_imports_nothing_heavy() -> None:
    code = (
        "import sys, chartqa_ft.metrics as m; "
        "m.relaxed_accuracy(predictions=['1'], references=['1']); "
        "print([x for x in ('torch', 'transformers', 'datasets', 'evaluate', 'scipy', 'numpy') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import chartqa_ft.metrics

    with pytest.raises(AttributeError, match="nonsense"):
        chartqa_ft.metrics.nonsense  # noqa: B018
