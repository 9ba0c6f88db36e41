"""The package is imported without its heavy dependencies, and each of its public names loads."""

from __future__ import annotations

import pytest

from ..support.common import run


def test_import_is_lazy_and_every_public_name_loads():
    code = (
        "import sys, chartqa_ft; heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'scipy', 'peft'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "[getattr(chartqa_ft, name) for name in chartqa_ft.__all__]; print(len(chartqa_ft.__all__))"
    )
    import sys

    assert int(run([sys.executable, "-c", code], timeout=120).stdout) > 15
    import chartqa_ft

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        chartqa_ft.nothing  # noqa: B018
