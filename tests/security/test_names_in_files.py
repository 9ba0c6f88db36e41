"""A name inside a file means a file in the folder of that file, and no other one of this machine."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import DatasetDict

from chartqa_ft import load_chartqa
from chartqa_ft.data.columns import LayoutError
from chartqa_ft.evaluation.results import EvaluationResult, read_scores, write_scores
from chartqa_ft.files import file_inside, write_json
from chartqa_ft.hub.download import fetch_checkpoint
from chartqa_ft.hub.model_files import files_of_model
from chartqa_ft.models import load
from chartqa_ft.training.callbacks import FindBestCheckpoint
from chartqa_ft.training.checkpoints import find_damage, mark_checkpoint

from ..hub.folders import save
from ..support.common import drawn_charts

OUTSIDE = [
    "../private.jsonl",
    "predictions/../../private.jsonl",
    "a/./b.jsonl",
    "a//b.jsonl",
    "predictions/",
    "..",
    ".",
    "",
    "predictions/a\0.jsonl",
    "predictions/a.jsonl\n",
    "predictions\\..\\..\\private.jsonl",
    "C:private.jsonl",
    "C:/private.jsonl",
    "\\\\server\\share\\private.jsonl",
    "predictions/\ud800.jsonl",
    7,
    None,
    ["predictions/a.jsonl"],
]


@pytest.fixture
def top(tmp_path) -> Path:
    """A folder with a private file beside it, and links in it that lead there."""
    (tmp_path / "private.jsonl").write_text('{"private": 1}\n')
    inside = tmp_path / "out"
    (inside / "predictions" / "folder.jsonl").mkdir(parents=True)
    (inside / "predictions" / "eval-step-1.jsonl").write_text("{}\n")
    (inside / "predictions" / "link.jsonl").symlink_to(tmp_path / "private.jsonl")
    (inside / "predictions" / "up").symlink_to(tmp_path)
    (inside / "predictions" / "loop.jsonl").symlink_to("loop.jsonl")
    (inside / ".env").write_text("SECRET=1")
    return inside


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_names_that_lead_out_are_refused(top, name):
    with pytest.raises(ValueError, match="names the file"):
        file_inside(top, name, where="scores")


def test_absolute_names_are_refused(top):
    for name in (str(top.parent / "private.jsonl"), str(top / "predictions" / "eval-step-1.jsonl"), "//etc/passwd"):
        with pytest.raises(ValueError, match="leads out"):
            file_inside(top, name, where="scores")


def test_links_folders_and_missing_files(top):
    for name in ("link.jsonl", "up/private.jsonl", "loop.jsonl", "up/out/predictions/eval-step-1.jsonl"):
        with pytest.raises(ValueError, match="is a link, which is not followed"):
            file_inside(top, f"predictions/{name}", where="scores")
    with pytest.raises(ValueError, match="is no regular file"):
        file_inside(top, "predictions/folder.jsonl", where="scores")
    with pytest.raises(ValueError, match="is no regular file"):
        file_inside(top, "predictions/eval-step-1.jsonl/x", where="scores")
    with pytest.raises(FileNotFoundError):
        file_inside(top, "predictions/none.jsonl", where="scores")
    alias = top.parent / "alias"
    alias.symlink_to(top)
    assert file_inside(alias, "predictions/eval-step-1.jsonl", where="scores").read_text() == "{}\n"


# ------------------------------------------------------------------ chartqa_scores.json


def scores_naming(top: Path, name) -> Path:
    checkpoint = top / "checkpoint-1"
    write_scores({1: EvaluationResult(step=1, prefix="eval_", metrics={}, decoding={})}, checkpoint, top)
    (entry,) = json.loads((checkpoint / "chartqa_scores.json").read_text())
    write_json(checkpoint / "chartqa_scores.json", [{**entry, "predictions": name}])
    return checkpoint


@pytest.mark.parametrize(
    "name", [*[name for name in OUTSIDE if name is not None], ".env", "checkpoint-1/x.pt"], ids=repr
)
def test_a_checkpoint_cannot_name_another_file_as_its_predictions(top, name):
    with pytest.raises(ValueError, match=r"chartqa_scores\.json"):
        read_scores(scores_naming(top, name), top)


def test_predictions_behind_links_are_not_used(top, caplog):
    for name in ("link.jsonl", "up/private.jsonl", "folder.jsonl"):
        (result,) = read_scores(scores_naming(top, f"predictions/{name}"), top).values()
        assert result.predictions is None
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 3
    (result,) = read_scores(scores_naming(top, "predictions/eval-step-1.jsonl"), top).values()
    assert result.predictions == top / "predictions" / "eval-step-1.jsonl"
    (result,) = read_scores(scores_naming(top, "predictions/none.jsonl"), top).values()
    assert result.predictions is None


# ------------------------------------------------------------------ weights and checkpoints


@pytest.mark.parametrize(
    "shard", ["../private.safetensors", "/private.safetensors", "a\0", "x\n", "", 7, "C:x"], ids=repr
)
def test_an_index_of_weights_names_files_beside_it(tmp_path, shard):
    folder = save(tmp_path / "checkpoint-1", shards=True)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        fetch_checkpoint(folder)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        files_of_model(folder)
    assert "model.safetensors.index.json" in str(find_damage(folder, needs_mark=False))


def test_the_mark_of_a_checkpoint_names_files_in_it(tmp_path):
    folder = tmp_path / "checkpoint-1"
    write_json(folder / "trainer_state.json", {"global_step": 1})
    mark_checkpoint(folder, {"window": [0.0, 0], "total": [0.0, 0]})
    assert find_damage(folder) is None
    mark = json.loads((folder / "chartqa_state.json").read_text())
    (tmp_path / "private").write_text("x")
    mark["files"]["../private"] = {"size": 1, "crc32": 0}
    mark_of_format_2 = {key: mark[key] for key in ("window", "total", "files")} | {"format": 2}
    write_json(folder / "chartqa_state.json", mark_of_format_2)
    assert "leads out" in str(find_damage(folder))


def test_the_best_checkpoint_is_one_of_the_run(tmp_path, caplog):
    for folder in ("private/checkpoint-2", "private/model", "out/checkpoint-2", "earlier/checkpoint-2", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    ours, earlier = str(tmp_path / "out" / "checkpoint-2"), str(tmp_path / "earlier" / "checkpoint-2")
    for named, resumed, output_dir, kept in (
        (tmp_path / "private" / "model", earlier, "out", ours),
        (tmp_path / "private" / "checkpoint-2", earlier, "out", ours),
        (tmp_path / "private" / "checkpoint-2", earlier, "elsewhere", None),
        (earlier, earlier, "elsewhere", earlier),
        (ours, None, "out", ours),
    ):
        callback = FindBestCheckpoint()
        callback.resumed = resumed
        state = SimpleNamespace(best_model_checkpoint=str(named), best_global_step=2)
        caplog.clear()
        args = SimpleNamespace(output_dir=str(tmp_path / output_dir), load_best_model_at_end=False)
        callback.on_train_begin(args, state, None)
        assert state.best_model_checkpoint == kept, named
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert bool(warned) == (str(named) != kept)


@pytest.mark.parametrize("base", ["{top}/private", "{top}/out/../private", "../private", "private", "a/b"])
def test_a_checkpoint_of_the_hub_names_no_folder_of_this_machine_as_its_base(tmp_path, monkeypatch, base):
    save(tmp_path / "private")
    folder = save(tmp_path / "out", peft=True)
    for name in ("private", "a/b"):  # where the program runs
        save(folder / name)
    named = {"peft_type": "LORA", "base_model_name_or_path": base.format(top=tmp_path), "r": 2}
    write_json(folder / "adapter_config.json", named)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(load, "fetch_checkpoint", lambda name, **_: folder)
    with pytest.raises(ValueError, match="which is a folder of this machine and no model on the Hub"):
        load.load_checkpoint("mallory/lora")


# ------------------------------------------------------------------ saved data sets


@pytest.fixture
def saved(tmp_path) -> Path:
    DatasetDict({"train": drawn_charts().select(range(2))}).save_to_disk(tmp_path / "saved")
    drawn_charts().select(range(3)).save_to_disk(tmp_path / "private")
    return tmp_path / "saved"


def edited(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_saved_data_set_is_read_as_before(saved):
    assert len(load_chartqa(saved)["train"]) == 2
    assert len(load_chartqa(saved / "train")) == 1  # one split, "train", of a data set
    alias = saved.parent / "alias"
    alias.symlink_to(saved)
    assert len(load_chartqa(alias)["train"]) == 2


def attack_state(saved: Path) -> None:
    edited(saved / "train" / "state.json", _data_files=[{"filename": "../../private/data-00000-of-00001.arrow"}])


def attack_state_absolute(saved: Path) -> None:
    place = str(saved.parent / "private" / "data-00000-of-00001.arrow")
    edited(saved / "train" / "state.json", _data_files=[{"filename": place}])


def attack_splits(saved: Path) -> None:
    edited(saved / "dataset_dict.json", splits=["train", "../private"])


def attack_splits_absolute(saved: Path) -> None:
    edited(saved / "dataset_dict.json", splits=[str(saved.parent / "private")])


def attack_linked_arrow(saved: Path) -> None:
    (file,) = (saved / "train").glob("*.arrow")
    file.unlink()
    file.symlink_to(saved.parent / "private" / "data-00000-of-00001.arrow")


def attack_linked_split(saved: Path) -> None:
    (saved / "val").symlink_to(saved.parent / "private")
    edited(saved / "dataset_dict.json", splits=["train", "val"])


ATTACKS = [attack_state, attack_state_absolute, attack_splits, attack_splits_absolute, attack_linked_arrow]
ATTACKS += [attack_linked_split]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_a_saved_data_set_names_files_in_its_folder(saved, attack):
    attack(saved)
    with pytest.raises(LayoutError, match=r"leads out|is a link"):
        load_chartqa(saved)
