"""A trained model goes to the Hub and comes back the same, with a card of its own scores, whatever fails meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chartqa_ft.hub.public import find_token

from ..data.test_hub_datasets import as_m4
from ..hub_client import Client, ClientError
from ..hub_server import environment
from ..project.test_hub_server import World
from ..support.common import drawn_charts, launcher
from ..support.launching import EVALUATE, FINETUNE, TIMEOUT, as_command_line
from ..support.push_world import (
    BASES,
    FLOWS,
    KINDS,
    assert_card_tells,
    card,
    expected,
    metadata,
    push_world,
    pushed,
    run_folder,
    scores,
    there_and_back,
)

COMMIT = "/api/models/{}/commit/*"
UPLOAD = "/storage/upload/*"
REFUSED = "hf_" + "abcdefghij" * 3


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    with push_world(tmp_path_factory.mktemp("push"), xet=False) as world:
        yield world


@pytest.fixture(scope="module")
def other(world) -> Iterator[Client]:
    """Another process, whose cache a test empties."""
    with world.process("fresh", token=world.token) as client:
        yield client


@pytest.fixture
def folder(world, request) -> Path:
    return run_folder(world, request.node.name)


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["unichart", "llava"])
def test_there_and_back(world, other, folder, family, kind):
    there_and_back(world, other, folder, family, kind)


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


# ---------------------------------------------------------------- where to, and who may


def test_pull_requests_branches_and_organisations(world, folder):
    base, hub = BASES["unichart"], world.hub
    hub.upload("bob/model", {"README.md": b"bob's"})
    sent = world.call(
        FLOWS + "train_and_push", folder / "pr", base, hub_model_id="bob/model", hub_create_pr=True, max_steps=1
    )
    assert sent["pr"] == f"{hub.url}/bob/model/discussions/1"
    assert pushed(world, "bob/model") == {"README.md": b"bob's"}
    assert set(pushed(world, "bob/model", revision="refs/pr/1")) == expected("unichart", "full")
    sent = world.call(
        FLOWS + "train_and_push",
        folder / "lab",
        base,
        hub_model_id="lab/model",
        hub_private_repo=True,
        hub_revision="trial",
        max_steps=1,
    )
    assert hub.is_private("lab/model")
    assert pushed(world, "lab/model") == {}
    files = pushed(world, "lab/model", revision="trial")
    assert set(files) == expected("unichart", "full")
    got = world.call(FLOWS + "pull", "lab/model", sent["labels"], folder / "pulled", revision="trial")
    assert got["answers"] == sent["answers"]
    # A card's name and its snippets say where the model is.
    assert "lab/model" in card(files)


def test_who_may_not_push_hears_it_before_training(world, folder):
    reader = world.hub.add_user("alice", "read")
    for name, token, words in [
        ("alice/refused", reader, "the token may not write to alice/refused"),
        ("alice/refused", REFUSED, "the Hub refused the token"),
        ("bob/other", world.token, "If you do not belong to 'bob', the name is taken"),
    ]:
        with pytest.raises(ClientError) as caught:
            world.call(FLOWS + "init_alone", folder, BASES["unichart"], hub_model_id=name, hub_token=token)
        assert caught.value.kind == "HubError", caught.value.trace
        assert words in caught.value.message
        assert not find_token(caught.value.trace, token)
        assert not world.hub.exists(name)


# ---------------------------------------------------------------- a full disk, a killed process


@pytest.mark.parametrize(
    ("family", "lora", "weights"), [("unichart", False, "model"), ("llava", True, "adapter_model")]
)
def test_a_full_disk_keeps_what_was_there(world, folder, family, lora, weights):
    room = 100_000 if not lora else 2_000
    told = world.call(FLOWS + "save_on_a_full_disk", folder, BASES[family], room, lora=lora)
    assert told["error"]["kind"] == "OSError"
    assert f"the disk is full: the model could not be saved in {folder}. What was there is" in told["error"]["message"]
    assert told["error"]["errno"] == 28
    assert told["same"]
    assert told["folders"] == []
    assert f"{weights}.safetensors" in told["changed"]


def test_a_process_killed_between_weights_and_commit(world, folder):
    name, base = "alice/killed", BASES["llava"]
    world.hub.fail(COMMIT.format(name), how="hold")
    number = len(world.hub.requests)
    with world.process("killed", token=world.token) as client:
        client.start(FLOWS + "push_saved", folder, name, base)
        world.hub.wait_for(COMMIT.format(name))
    world.hub.mend()
    assert pushed(world, name) == {}
    assert len(world.hub.matching(UPLOAD, "PUT", since=number)) == 1
    number = len(world.hub.requests)
    world.call(FLOWS + "push_saved", folder, name, base)
    assert set(pushed(world, name)) == expected("llava", "full") - {"metrics.json", "assets/training_curve.png"}
    assert len(world.hub.commits(name)) == 2
    assert not world.hub.matching(UPLOAD, "PUT", since=number)


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
