"""Sample predictions in TensorBoard, W&B and trackio, written by the real packages without a network and read back."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from transformers.integrations import integration_utils

from chartqa_ft.scripts import ModelArguments
from chartqa_ft.scripts.running import train_and_score
from chartqa_ft.training.sample_logging import COLUMNS
from chartqa_ft.training.trackers import trackers_of

from ..support.common import drawn_charts, trainer

SECRET = "hf_" + "Q" * 34
QUESTION = f"How much | `is` <b>red</b> {SECRET}?"


def evaluated():
    """Six questions; the first holds markup, and what looks like a token."""
    rows = [dict(row) for row in drawn_charts().select(range(6))]
    rows[0]["question"] = QUESTION
    return rows


@pytest.fixture(scope="session")
def logged(tmp_path_factory):
    """The folder of a run of a script with all three trackers, with a token on its command line.

    Once a process: W&B keeps the settings of its first run, and a worker may come back to this module.
    """
    for name in ("tensorboard", "wandb", "trackio"):
        pytest.importorskip(name, reason="`make test` installs the extra trackers")
    folder = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "WANDB_MODE": "offline",
            "WANDB_DIR": folder,
            "WANDB_SILENT": "true",
            "WANDB_DATA_DIR": folder,
            "WANDB_CACHE_DIR": folder,
            "TRACKIO_DIR": folder / "trackio",
        }.items():
            patch.setenv(name, str(value))
        patch.setattr(sys, "argv", ["train.py", "--hub_token", SECRET, "--seed", "3"])

        import wandb

        wandb.teardown()  # the settings of another test
        for module in list(sys.modules.values()):  # the folder is read when trackio is imported
            if getattr(module, "__name__", "").startswith("trackio"):
                for name, part in (("TRACKIO_DIR", "trackio"), ("MEDIA_DIR", "trackio/media")):
                    if hasattr(module, name):
                        patch.setattr(module, name, folder / part)
        run = trainer(
            folder / "out",
            eval_dataset=evaluated(),
            max_steps=2,
            eval_strategy="steps",
            eval_steps=1,
            report_to=["tensorboard", "wandb", "trackio"],
            hub_token=SECRET,
        )
        train_and_score(run, ModelArguments(check="False"))
        trackers = trackers_of(run.callback_handler.callbacks)
        if wandb.run is not None:
            wandb.finish()
    return SimpleNamespace(folder=folder, trackers=trackers)


def test_tensorboard_has_a_picture_and_a_table_of_each_evaluation(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (logged.folder / "out" / "runs").iterdir()
    assert len(list(run.iterdir())) == 1  # the final evaluation did not begin another file
    events = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert events.Tags()["images"] == ["eval/samples", "eval/final/samples"]
    assert [image.step for image in events.Images("eval/samples")] == [1, 2]
    with Image.open(io.BytesIO(events.Images("eval/final/samples")[0].encoded_image_string)) as sheet:
        assert sheet.width == 4 * 232 + 12
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("eval/samples/text_summary")]
    questions = [[line.split(" | ")[1] for line in text.splitlines()[2:]] for text in texts]
    assert questions[0] == questions[1]
    assert questions[0][1:] == [row["question"] for row in evaluated()[1:]]
    assert questions[0][0] == "How much &#124; &#96;is&#96; &lt;b&gt;red&lt;/b&gt; TOKEN&#95;REMOVED?"
    assert texts[0].splitlines()[0] == "| step | question | answer | prediction | verdict |"


def test_wandb_has_tables_in_one_run(logged):
    (run,) = (logged.folder / "wandb").glob("offline-run-*")
    tables = sorted((run / "files" / "media" / "table" / "eval").rglob("*.table.json"))
    assert len(tables) == 3
    for file in tables:
        table = json.loads(file.read_text())
        assert table["columns"] == list(COLUMNS)
        assert len(table["data"]) == 6
        assert {row[-1] for row in table["data"]} <= {"right", "wrong"}
        assert [row[2] for row in table["data"]][1:] == [row["question"] for row in evaluated()[1:]]
    assert len([file for file in tables if file.parent.name == "final"]) == 1


def test_trackio_has_tables_with_charts_in_one_run(logged):
    (database,) = (logged.folder / "trackio").glob("*.db")
    with sqlite3.connect(database) as data:
        rows = data.execute("select run_name, metrics from metrics order by id").fetchall()
    assert len({name for name, _ in rows}) == 1
    logs = [json.loads(metrics) for _, metrics in rows]
    names = [name for log in logs for name in log if name.endswith("samples")]
    assert names == ["eval/samples", "eval/samples", "eval/final/samples"]
    assert any("train/final_relaxed_accuracy" in log or "final_relaxed_accuracy" in str(log) for log in logs)
    pictures = list((logged.folder / "trackio" / "media").rglob("*.png"))
    assert len(pictures) == 18
    with Image.open(pictures[0]) as chart:
        assert chart.size == drawn_charts()[0]["image"].size


def test_no_token_is_logged_anywhere(logged):
    output = logged.folder / "out"  # where answers are kept as they are
    found = [path for path in logged.folder.rglob("*") if path.is_file()]
    sent = [path for path in found if output not in path.parents or output / "runs" in path.parents]
    assert len(sent) > 20
    assert [path for path in sent if SECRET.encode() in path.read_bytes()] == []


def test_the_trackers_are_back_and_closed(logged):
    kinds = integration_utils.INTEGRATION_TO_CALLBACK
    assert [type(tracker) for tracker in logged.trackers] == [
        kinds["tensorboard"],
        kinds["wandb"],
        kinds["trackio"],
    ]
    assert logged.trackers[0].tb_writer is None
    assert not logged.trackers[2]._initialized
