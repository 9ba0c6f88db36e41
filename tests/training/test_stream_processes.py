"""Two processes with two workers each train on a stream: each row once, decoded once, and resumed to the same bits."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from chartqa_ft import read_predictions
from chartqa_ft.training.progress import COST_SAMPLE

from ..support.common import ROOT, drawn_charts
from ..support.prepared import run_prepared


@pytest.mark.long
def test_streams_on_two_processes_with_workers(tmp_path):
    run_prepared([ROOT / "tests" / "drivers" / "resume_stream.py", tmp_path], 2)
    saved = {
        name: [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in range(2)]
        for name in ("unbroken", "resumed", "refused")
    }
    unbroken, resumed = saved["unbroken"], saved["resumed"]
    assert [result["num_processes"] for result in (*unbroken, *resumed)] == [2] * 4

    # 20 rows in batches of 2 on 2 ranks: an epoch has 5 steps.
    assert len(drawn_charts()) == 20
    rows = [[step_rows for _, step_rows in result["rows"]] for result in unbroken]
    assert [len(of_rank) for of_rank in rows] == [9, 9]
    assert sorted(chain(*rows[0][:5], *rows[1][:5])) == list(range(20))
    second = list(chain(*rows[0][5:], *rows[1][5:]))
    assert len(set(second)) == len(second) == 16
    for whole, rest in zip(unbroken, resumed, strict=True):
        assert rest["rows"] == whole["rows"][6:]
    assert len({result["weights"] for result in (*unbroken, *resumed)}) == 1

    for rank, result in enumerate(unbroken):
        by_process: dict[str, int] = {}
        for process, _ in result["decoded"]:
            by_process[process] = by_process.get(process, 0) + 1
        # Checks read one record beforehand, and rank 0 says what a chart costs; then two workers decode in each epoch.
        assert by_process.pop(str(result["process"]), 0) <= (1 if rank else 1 + COST_SAMPLE)
        assert len(by_process) == 4
        assert 18 <= sum(by_process.values()) <= 20  # the batch after the last step is fetched ahead
    for rank, result in enumerate(resumed):
        charts = [chart for process, chart in result["decoded"] if process != str(result["process"])]
        assert 6 <= len(charts) <= 8, f"rank {rank} has decoded skipped rows"

    (told,) = unbroken[0]["told"]
    assert "train_dataset is shuffled while it is read: a resumed run fills the shuffle buffer anew" in told
    assert [result["n"] for result in (*unbroken, *resumed)] == [20] * 4
    answers = read_predictions(tmp_path / "unbroken" / "predictions" / "eval-step-9.jsonl")
    assert [row["index"] for row in answers] == list(range(20))
    assert [row["question"] for row in answers] == drawn_charts()["question"]

    assert saved["refused"][0] == saved["refused"][1]
    for message, wanted in zip(
        saved["refused"][0],
        ("is shuffled without a seed", "split with split_dataset_by_node", "2 processes read different records"),
        strict=True,
    ):
        assert wanted in message
