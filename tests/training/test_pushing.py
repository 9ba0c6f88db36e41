"""A trained model goes to the Hub and comes back the same, and the files in its folder stay as they were."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from chartqa_ft.hub.public import find_token

from ..drivers.push_flows import OWN
from ..hub_client import ClientError
from ..project.test_hub_server import World
from ..support.push_world import (
    BASES,
    FLOWS,
    KINDS,
    assert_card_tells,
    card,
    expected,
    pushed,
    scores,
    there_and_back,
)

COMMIT = "/api/models/{}/commit/*"
UPLOAD = "/storage/upload/*"
REFUSED = "hf_" + "abcdefghij" * 3


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["unichart", "llava"])
def test_there_and_back(world, other, folder, family, kind):
    there_and_back(world, other, folder, family, kind)


# ---------------------------------------------------------------- local files


def pushed_beside(world: World, folder: Path, name: str, **settings) -> dict:
    """A push from a folder with files; none of those that were there may change or go."""
    told = world.call(FLOWS + "push_beside_files", folder, BASES["unichart"], hub_model_id=name, **settings)
    kept = {path: told["after"].get(path) for path in told["before"]}
    assert kept == told["before"]
    assert {"model.safetensors", "training_args.json"} <= set(kept)
    return {**told, "added": set(told["after"]) - set(told["before"])}


def test_a_push_leaves_the_files_of_a_user_alone(world, folder):
    told = pushed_beside(world, folder, "alice/beside", own=True, evaluate=True)
    assert (told["error"], told["added"]) == (None, set())
    assert set(OWN) <= set(told["before"])
    files = pushed(world, "alice/beside")
    assert set(files) == expected("unichart", "full") | {"predictions.jsonl", "LICENSE"}
    assert_card_tells(files, told["metrics"])
    assert scores(json.loads(files["metrics.json"])) == scores(told["metrics"])
    assert files["predictions.jsonl"] == (folder / "predictions" / "eval-step-2.jsonl").read_bytes()
    assert files["assets/training_curve.png"][1:4] == b"PNG"


def test_a_push_without_an_evaluation_keeps_the_local_scores(world, folder):
    told = pushed_beside(world, folder, "alice/unscored", own=True, evaluate=False)
    assert (told["error"], told["added"]) == (None, set())
    assert (folder / "metrics.json").read_text() == OWN["metrics.json"]
    assert not {"metrics.json", "predictions.jsonl"} & set(pushed(world, "alice/unscored"))


def test_the_results_of_a_push_are_added_where_there_are_none(world, folder):
    told = pushed_beside(world, folder, "alice/added", own=False, evaluate=True)
    assert told["added"] == {"README.md", "assets/training_curve.png", "metrics.json", "predictions.jsonl"}
    files = pushed(world, "alice/added")
    for name in told["added"]:
        assert (folder / name).read_bytes() == files[name]


@pytest.mark.parametrize("evaluate", [False, True])
def test_a_push_that_fails_leaves_the_files_of_a_user_alone(world, folder, evaluate):
    name = f"alice/fails-{evaluate}".lower()
    world.hub.fail(COMMIT.format(name), status=403)
    told = pushed_beside(world, folder, name, own=True, evaluate=evaluate)
    staged = folder / ".push" / "model"
    assert told["error"].startswith(f"{name} was not pushed: the token may not write to")
    assert told["error"].endswith(f"Nothing is lost: the files are kept in {staged}.")
    assert {path.partition("/")[0] for path in told["added"]} == {".push"}
    assert pushed(world, name) == {}
    # What is kept is what would have been pushed.
    world.call(FLOWS + "push_folder", staged, name)
    files = pushed(world, name)
    assert "My own card" not in card(files)
    assert ("metrics.json" in files) == evaluate
    assert scores(json.loads(files.get("metrics.json", b"{}"))) == scores(told["metrics"])


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
    assert told["error"]["kind"] == "FullDiskError"
    assert f"the disk is full: the model could not be saved in {folder}. What was there is" in told["error"]["message"]
    assert told["error"]["errno"] in (errno.EFBIG, errno.ENOSPC)  # the test limits the size of files
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
