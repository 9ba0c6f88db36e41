"""`save_total_limit` keeps the new checkpoint, the best one, and the newest complete ones of the run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chartqa_ft.training import trainer as trainer_module
from chartqa_ft.training.checkpoints import find_damage, last_checkpoint
from chartqa_ft.training.lineage import Lineage
from chartqa_ft.training.rotating import delete_old_checkpoints

from ..support.common import drawn_charts, trainer


def out(folder: Path, runs: dict[int, str | None]) -> Path:
    """Folders of checkpoints with the marks of these runs; `None` is a checkpoint without a mark."""
    for step, run in runs.items():
        (folder / f"checkpoint-{step}").mkdir()
        if run is not None:
            (folder / f"checkpoint-{step}" / "chartqa_state.json").write_text(json.dumps({"run": run}))
    return folder


def left(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("runs", "newest", "limit", "best", "expected"),
    [
        ({1: "a", 2: "a", 3: "a"}, 3, None, None, [1, 2, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 0, None, [1, 2, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 2, None, [2, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 2, 1, [1, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 2, 3, [2, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 1, 1, [1, 3]),
        ({1: "a", 2: "a", 3: "a"}, 3, 5, 7, [1, 2, 3]),
        ({1: "a", 2: None, 3: "a"}, 3, 2, None, [1, 3]),  # an incomplete one goes before an older complete one
        ({1: "a", 2: "a", 8: "b", 9: None}, 2, 2, None, [1, 2]),  # steps of an earlier run are no newer ones
        ({1: "a", 2: "a", 8: "b", 9: "b"}, 2, 3, None, [1, 2, 9]),
        ({1: "b", 10: "a", 9: "a"}, 10, 2, None, [9, 10]),
    ],
)
def test_which_checkpoints_are_left(tmp_path, runs, newest, limit, best, expected):
    folder = out(tmp_path, runs)
    if len(set(runs.values()) - {None}) > 1:
        Lineage("a").write(folder)
    (folder / "checkpoint-best").mkdir()  # no checkpoint of ours
    chosen = None if best is None else folder / f"checkpoint-{best}"
    deleted = delete_old_checkpoints(folder / f"checkpoint-{newest}", limit, chosen)
    (folder / "checkpoint-best").rmdir()
    assert left(folder) == expected
    assert sorted(int(path.name.rpartition("-")[2]) for path in deleted) == sorted(set(runs) - set(expected))


def test_the_times_of_folders_do_not_matter(tmp_path):
    folder = out(tmp_path, {1: "a", 2: "a", 3: "a"})
    for step in (1, 2, 3):
        os.utime(folder / f"checkpoint-{step}", (1000 * (9 - step),) * 2)
    delete_old_checkpoints(folder / "checkpoint-3", 2)
    assert left(folder) == [2, 3]


def test_what_a_link_points_to_is_kept(tmp_path):
    folder = out(tmp_path, {1: "a", 2: "a", 4: "a"})
    (folder / "checkpoint-3").symlink_to(folder / "checkpoint-1")
    delete_old_checkpoints(folder / "checkpoint-4", 2, folder / "checkpoint-1")
    assert left(folder) == [1, 3, 4]
    assert (folder / "checkpoint-1" / "chartqa_state.json").is_file()


def test_a_damaged_note_deletes_nothing_of_this_run_first(tmp_path):
    folder = out(tmp_path, {1: "b", 2: "a", 3: "a"})
    (folder / "chartqa_run.json").write_text("{")
    delete_old_checkpoints(folder / "checkpoint-3", 2)
    assert left(folder) == [2, 3]


def test_the_new_checkpoint_is_complete_before_old_ones_are_deleted(tmp_path, monkeypatch):
    """A kill at any moment leaves the best checkpoint, and a complete one that is no older than the one before."""
    seen = []
    delete = delete_old_checkpoints

    def watched(newest, limit, best):
        seen.append((left(tmp_path), find_damage(newest), last_checkpoint(tmp_path), best and Path(best).name))
        return delete(newest, limit, best)

    monkeypatch.setattr(trainer_module, "delete_old_checkpoints", watched)
    run = trainer(
        tmp_path,
        max_steps=4,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=1,
        eval_dataset=drawn_charts().select(range(2)),
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # of a loss that falls, the first is the best
    )
    run.train()
    assert [damage for _, damage, _, _ in seen] == [None] * 4
    assert [found for _, _, found, _ in seen] == [str(tmp_path / f"checkpoint-{step}") for step in (1, 2, 3, 4)]
    assert [steps for steps, _, _, _ in seen] == [[1], [1, 2], [1, 2, 3], [1, 3, 4]]
    assert {best for _, _, _, best in seen} == {"checkpoint-1"}
    assert left(tmp_path) == [1, 4]
    saved = json.loads((tmp_path / "checkpoint-4" / "training_args.json").read_text())
    assert saved["save_total_limit"] == run.args.save_total_limit == 2
