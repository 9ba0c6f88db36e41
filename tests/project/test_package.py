"""The package is imported without its heavy dependencies, and each of its public names loads."""

from __future__ import annotations

import sys

import pytest

from ..support.common import run
from ..support.fork_server import of_others
from ..support.prepared import run_prepared


def test_import_is_lazy_and_every_public_name_loads():
    code = (
        "import sys, chartqa_ft; heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'scipy', 'peft'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    run([sys.executable, "-c", code], timeout=120)
    code = (
        "import chartqa_ft; [getattr(chartqa_ft, name) for name in chartqa_ft.__all__]; print(len(chartqa_ft.__all__))"
    )
    assert int(run_prepared(["-c", code], by=of_others()).stdout) > 15
    import chartqa_ft

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        chartqa_ft.nothing  # noqa: B018


def test_answering_needs_no_peft_and_the_trainer_no_package_beside_upstreams():
    """transformers itself imports peft with its trainer: `transformers/trainer_utils.py`, at its top."""
    code = """
import sys, chartqa_ft
[getattr(chartqa_ft, name) for name, home in chartqa_ft._HOMES.items() if home != "training"]
early = {"peft", "transformers.trainer", "transformers.trainer_utils", "matplotlib"} & set(sys.modules)
assert not early, early
import datasets
from transformers import Seq2SeqTrainer
packages = lambda: {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
there = packages()
from chartqa_ft import ChartQATrainer
assert packages() == there, packages() - there
"""
    run([sys.executable, "-c", code], timeout=240)
