"""Ranks that share the weights of a model answer different numbers of questions without waiting for each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.lockstep import is_sharded, running_lockstep

from ..support.common import ROOT, tiny
from ..support.families import FAMILIES
from ..support.prepared import run_prepared

DRIVER = ROOT / "tests" / "drivers" / "answer_in_lockstep.py"


def test_a_model_in_one_process_is_not_sharded():
    model, processor = tiny()
    adapter_for(model, processor)
    assert not is_sharded(model)
    assert running_lockstep(model) is None


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    """What two ranks of FSDP2 wrote, per rank, after each has answered questions of its own."""
    folder: Path = tmp_path_factory.mktemp("lockstep")
    run_prepared([DRIVER, folder], 2, timeout=170)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.long
def test_sharded_answers_are_those_of_the_whole_model(results):
    for jobs in results:
        assert {"greedy", "beams", "legacy beams", *FAMILIES} == jobs.keys()
        for job in jobs.values():
            assert job["sharded"] == [False, True]
            assert job["answers"] == job["alone"]
        assert sum(map(any, (job["alone"] for job in jobs.values()))) > len(jobs) // 2


@pytest.mark.long
def test_all_ranks_make_the_same_passes(results):
    first, second = results
    for name in first:
        assert first[name]["passes"] == second[name]["passes"], name
    assert any(first[name]["own"] != second[name]["own"] for name in first)  # otherwise nothing was to be done
