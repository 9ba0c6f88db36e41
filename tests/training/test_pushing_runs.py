"""What runs push: saves during training, the best weights at the end, and all that the example scripts push."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from chartqa_ft.hub.errors import HubError
from chartqa_ft.hub.public import find_token
from chartqa_ft.training.pushing import HubPusher

from ..hub_server import environment
from ..project.test_hub_server import World
from ..support.common import arguments, drawn_charts, launcher
from ..support.hub_charts import as_m4
from ..support.launching import EVALUATE, FINETUNE, TIMEOUT, as_command_line
from ..support.push_world import (
    BASES,
    FLOWS,
    assert_card_tells,
    card,
    expected,
    metadata,
    pushed,
    scores,
)

COMMIT = "/api/models/{}/commit/*"


# ---------------------------------------------------------------- while training


SAVES = {"save_strategy": "steps", "save_steps": 1, "push_to_hub": True, "hub_always_push": True}


def titles(world: World, name: str) -> list[str]:
    return [commit.title for commit in world.hub.commits(name)][:-1]


def test_every_save_is_pushed(world, folder):
    name = "alice/every-save"
    ended = world.call(
        FLOWS + "train_alone",
        folder,
        BASES["unichart"],
        hub_model_id=name,
        hub_strategy="every_save",
        save_total_limit=2,
        max_steps=3,
        **SAVES,
    )
    assert (ended["steps"], ended["warnings"]) == (3, [])
    assert titles(world, name) == [f"Training in progress, step {step}" for step in (3, 2, 1)]
    files = pushed(world, name)
    assert set(files) == expected("unichart", "full") - {"metrics.json"}  # never evaluated
    assert files["model.safetensors"] == (folder / "checkpoint-3" / "model.safetensors").read_bytes()
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    assert not (folder / ".push").exists()


def test_checkpoints_to_resume_from(world, folder):
    name = "alice/checkpoints"
    ended = world.call(
        FLOWS + "train_alone",
        folder,
        BASES["llava"],
        lora=True,
        hub_model_id=name,
        hub_token=world.token,
        hub_strategy="checkpoint",
        eval_strategy="steps",
        eval_steps=1,
        **SAVES,
    )
    assert (ended["steps"], ended["warnings"]) == (2, [])
    assert titles(world, name) == ["Training in progress, step 2", "Training in progress, step 1"]
    files = world.hub.files(name)
    states = {path.partition("/")[2]: content for path, content in files.items() if path.startswith("last-")}
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json", "adapter_model.safetensors"} <= set(states)
    assert states["optimizer.pt"] == (folder / "checkpoint-2" / "optimizer.pt").read_bytes()
    assert json.loads(states["trainer_state.json"])["global_step"] == 2
    assert not [path for path in files if path.endswith("training_args.bin")]
    assert {path for path in files if "/" not in path or path.startswith("assets/")} - {".gitattributes"} == expected(
        "llava", "lora"
    )
    assert json.loads(files["metrics.json"])["step"] == 2
    last = [row for row in ended["log"] if "eval_loss" in row][-1]
    assert_card_tells(files, last)
    for path, content in files.items():
        assert not find_token(content.decode("latin-1"), world.token), path


def test_a_failing_push_does_not_stop_the_training(world, folder):
    name = "alice/stumbles"
    world.hub.fail(COMMIT.format(name), status=403)
    ended = world.call(
        FLOWS + "train_alone",
        folder,
        BASES["unichart"],
        hub_model_id=name,
        hub_strategy="every_save",
        **SAVES,
    )
    assert ended["steps"] == 2
    (warning,) = ended["warnings"]
    assert warning.startswith("a push while training failed, and training goes on: alice/stumbles was not pushed: ")
    assert "the token may not write to" in warning
    assert f"Nothing is lost: the files are kept in {folder / 'checkpoint-1'}." in warning
    assert titles(world, name) == ["Training in progress, step 2"]
    assert set(pushed(world, name)) == expected("unichart", "full") - {"metrics.json"}
    assert (folder / "checkpoint-2" / "model.safetensors").is_file()


@pytest.mark.parametrize("error", [None, HubError("refused")])
def test_a_push_ends_after_its_folder_is_gone(tmp_path, monkeypatch, error):
    """Otherwise a push that waits for it loses the folder in which it puts its files."""

    class Slow(HubPusher):
        def _remove(self, staged):
            time.sleep(0.2)
            super()._remove(staged)

    sent = []

    def push_checkpoint(staged, repo_id, **_):
        sent.append(staged.name)
        if error is not None:
            raise error

    monkeypatch.setattr("chartqa_ft.training.pushing.push_checkpoint", push_checkpoint)
    pusher = Slow(arguments(tmp_path, hub_strategy="every_save", hub_always_push=True))
    found = []
    for step in (1, 2, 3):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "config.json").write_text("{}")
        save_file({"weight": torch.zeros(1)}, checkpoint / "model.safetensors")
        pusher.saved(checkpoint)
        pusher.push_saved(
            lambda *_, **__: None,
            repo_id="alice/model",
            step=step,
            begin=lambda: found.append(pusher.staging.exists()),
        )
    pusher.finish()
    assert found == [False, False, False]
    assert sent == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert not pusher.staging.exists()


@pytest.mark.parametrize("better", [1, 2])
def test_the_card_is_of_the_best_weights(world, folder, better):
    name = f"alice/best-{better}"
    ended = world.call(FLOWS + "push_best", folder, BASES["unichart"], better, hub_model_id=name)
    assert ended["best"] == ended["weights_step"] == better
    assert ended["same_weights"]
    assert ended["losses"]["1"] != ended["losses"]["2"]
    files = pushed(world, name)
    report = json.loads(files["metrics.json"])
    assert report["step"] == better
    assert report["eval_loss"] == ended["losses"][str(better)]
    assert {row["metrics"][0]["args"]["step"] for row in metadata(files)["model-index"][0]["results"]} == {better}


# ---------------------------------------------------------------- the scripts, as the README writes them


def started(world: World, command: list[str], settings: dict, home: str) -> str:
    """A script with only HF_ENDPOINT and the like set; what it says, which holds no token."""
    variables = environment(world.hub, world.folder / home, token=world.token)
    command = [*command, *as_command_line(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    said = done.stdout + done.stderr
    assert world.token not in said
    return said


def test_a_script_pushes_a_merged_model_with_its_answers(world, folder):
    name = "alice/merged-script"
    metrics = world.call(
        FLOWS + "train_as_script",
        folder,
        BASES["llava"],
        lora=True,
        hub_model_id=name,
        push_merged=True,
        push_predictions=True,
    )
    files = pushed(world, name)
    assert set(files) == expected("llava", "merged") | {"predictions.jsonl"}
    assert files["predictions.jsonl"] == (folder / "predictions.jsonl").read_bytes()
    assert scores(json.loads(files["metrics.json"])) == scores(metrics)
    assert_card_tells(files, metrics)


@pytest.mark.long
def test_the_scripts_with_the_names_of_the_hub(world, folder):
    charts = drawn_charts(3)
    files = {f"data/{split}-00000-of-00001.parquet": as_m4(charts) for split in ("train", "val", "test")}
    world.hub.upload("HuggingFaceM4/ChartQA", files, repo_type="dataset")
    name, output = "alice/unichart-chartqa", folder / "out"
    settings = {
        "output_dir": output,
        "push_to_hub": True,
        "hub_model_id": name,
        "max_steps": 2,
        "max_train_samples": 4,
        "eval_steps": 1,
        "save_steps": 1,
        "warmup_steps": 0,
        "learning_rate": 0.02,
        "generation_num_beams": 1,
        "generation_max_new_tokens": 5,
        "push_predictions": True,
        "hub_token": world.token,
        "use_cpu": True,
    }
    said = started(world, [*launcher(1), str(FINETUNE)], settings, "training")
    (commit,) = world.hub.commits(name)[:-1]
    assert f"pushed: {world.hub.url}/{name}/commit/{commit.sha}" in said
    files = pushed(world, name)
    assert set(files) == expected("unichart", "full") | {"predictions.jsonl"}
    report = json.loads(files["metrics.json"])
    assert report == json.loads((output / "metrics.json").read_text())
    assert_card_tells(files, report)
    told = metadata(files)
    assert (told["license"], told["base_model"]) == ("mit", BASES["unichart"])
    assert told["datasets"] == ["HuggingFaceM4/ChartQA"]
    assert "accelerate launch" in card(files)
    assert str(world.folder) not in card(files)
    assert "hub_token" not in card(files)
    settings = {
        "model_name_or_path": name,
        "output_dir": folder / "scores",
        "eval_split": "val",
        "generation_num_beams": 1,
        "generation_max_new_tokens": 5,
        "use_cpu": True,
    }
    started(world, [sys.executable, str(EVALUATE)], settings, "evaluating")
    again = json.loads((folder / "scores" / "metrics.json").read_text())
    assert scores(again) == scores(report)
    assert again["eval_loss"] == report["eval_loss"]
    assert (folder / "scores" / "predictions.jsonl").read_bytes() == files["predictions.jsonl"]
