"""A model keeps the very base that it was trained on, wherever that base went since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save

from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import add_peft, default_lora_config
from chartqa_ft.models.origin import Origin, origin_of, revision_of, set_origin

from ..hub_client import Client, ClientError
from ..project.test_hub_server import World

FLOWS = "tests.drivers.pinned_flows."
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory, base) -> Iterator[World]:
    """`bob/base` on the branch `v1` is the base; other weights are on `main` since."""
    with World(tmp_path_factory.mktemp("pinned"), xet=False) as world:
        world.hub.upload("bob/base", base)
        world.hub.upload("bob/base", {"note.txt": b"first"}, revision="v1")
        weights = load_file(base / WEIGHTS)
        torch.manual_seed(0)
        moved = {key: weight + 0.3 * torch.randn(weight.shape).to(weight.dtype) for key, weight in weights.items()}
        world.hub.upload("bob/base", {WEIGHTS: save(moved, metadata={"format": "pt"})})
        yield world


@pytest.fixture(scope="module")
def other(world) -> Iterator[Client]:
    """Another process, with a cache of its own."""
    with world.process("other", token=world.token) as client:
        yield client


def adapter_config(world: World, name: str) -> dict:
    return json.loads(world.hub.files(name)["adapter_config.json"])


def head(world: World, branch: str) -> str:
    return world.hub.refs("bob/base")[f"refs/heads/{branch}"]


# ---------------------------------------------------------------- a base that moves on


def test_what_was_trained_on_a_branch_answers_the_same_after_the_base_moved(world, other, tmp_path):
    trained_on = head(world, "v1")
    for name, settings in (
        ("alice/adapter", {}),
        ("alice/merged", {"pushing": {"merge": True}}),
        ("alice/full", {"lora": False, "learning_rate": 0.002}),
    ):
        sent = world.call(
            FLOWS + "adapt_and_push",
            tmp_path / name,
            "bob/base",
            loading={"revision": "v1"},
            hub_model_id=name,
            **settings,
        )
        assert len(set(sent)) > 1 or name == "alice/full"
        assert f", revision {trained_on} |" in world.hub.files(name)["README.md"].decode()
        assert other.call(FLOWS + "answers", name) == sent, name
    stored = adapter_config(world, "alice/adapter")
    assert (stored["base_model_name_or_path"], stored["revision"]) == ("bob/base", trained_on)
    card = world.hub.files("alice/adapter")["README.md"].decode()
    assert f"from_pretrained('bob/base', revision='{trained_on}')" in card
    more = {"loading": {"trainable": True}, "hub_model_id": "alice/more"}
    sent = world.call(FLOWS + "adapt_and_push", tmp_path / "more", "alice/adapter", **more)
    assert adapter_config(world, "alice/more")["revision"] == trained_on
    assert other.call(FLOWS + "answers", "alice/more") == sent


def test_a_base_that_nobody_pinned_is_pinned_to_the_commit_that_was_loaded(world, other, tmp_path):
    trained_on = head(world, "main")
    sent = world.call(FLOWS + "adapt_and_push", tmp_path, "bob/base", hub_model_id="alice/unpinned")
    assert adapter_config(world, "alice/unpinned")["revision"] == trained_on
    world.hub.upload("bob/base", {WEIGHTS: world.hub.files("bob/base", revision="v1")[WEIGHTS]})
    assert head(world, "main") != trained_on
    assert other.call(FLOWS + "answers", "alice/unpinned") == sent


def test_the_commit_goes_into_every_config_and_is_not_kept_for_another_model(base):
    model, _, _ = load_checkpoint(base)
    assert origin_of(model) == Origin(str(base), None)
    set_origin(model, Origin("bob/base", "abc"))
    config = default_lora_config(model, r=2)
    assert config.revision == "abc"
    config.revision = "v1"
    wrapped = add_peft(model, config)
    assert (config.revision, wrapped.peft_config["default"].revision) == ("v1", "abc")
    assert revision_of(wrapped) == "abc"
    model.name_or_path = "bob/renamed"
    assert revision_of(wrapped) is None
    plain, _, _ = load_checkpoint(base)
    assert add_peft(plain, default_lora_config(plain, revision="v1")).peft_config["default"].revision == "v1"


def test_an_adapter_without_a_revision_is_trained_on_with_the_commit_that_was_loaded(world, base, tmp_path):
    model, _, _ = load_checkpoint(base)
    model.name_or_path = "bob/base"
    get_peft_model(model, default_lora_config(model, r=2)).save_pretrained(
        tmp_path / "old", save_embedding_layers=False
    )
    world.hub.upload("bob/old", tmp_path / "old")
    assert adapter_config(world, "bob/old")["revision"] is None
    world.call(
        FLOWS + "adapt_and_push", tmp_path / "new", "bob/old", loading={"trainable": True}, hub_model_id="alice/new"
    )
    assert adapter_config(world, "alice/new")["revision"] == head(world, "main")


# ---------------------------------------------------------------- a base that is private, or on no hub


def test_a_token_given_as_an_argument_reads_a_private_base_to_the_end(world, base, tmp_path):
    world.hub.create_repo("alice/secret", private=True)
    world.hub.upload("alice/secret", base)
    with world.process("anonymous") as client:
        for name, pushing, changes in (
            ("alice/of-secret", {"merge": True}, {"hub_token": world.token}),
            ("alice/of-secret-2", {"merge": True, "token": world.token}, {}),
        ):
            settings = {"loading": {"token": world.token}, "pushing": pushing, "hub_model_id": name, **changes}
            sent = client.call(FLOWS + "adapt_and_push", tmp_path / name, "alice/secret", **settings)
            assert client.call(FLOWS + "answers", name) == sent
        client.call(FLOWS + "trainer_by_name", tmp_path / "named", "alice/secret", hub_token=world.token)


def test_an_adapter_on_a_folder_warns_who_pushes_it_and_tells_who_pulls_it(world, other, base, tmp_path):
    local = shutil.copytree(base, tmp_path / "local")
    world.call(FLOWS + "adapt_and_push", tmp_path / "out", local, hub_model_id="alice/on-folder")
    said = f"the base model of these PEFT weights is the folder {local}, which is not on the Hub"
    assert world.client.log.read_text().count(said) == 1
    shutil.rmtree(local)
    with pytest.raises(ClientError) as caught:
        other.call(FLOWS + "answers", "alice/on-folder")
    assert caught.value.kind == "FileNotFoundError"
    whose = (
        f"there is no folder {local}: check the path. {local} is the base model of the PEFT checkpoint alice/on-folder"
    )
    assert caught.value.message.startswith(whose)


def test_an_adapter_on_a_base_that_the_hub_does_not_have_is_named(world, other, base, tmp_path):
    model, _, _ = load_checkpoint(base)
    set_origin(model, Origin("bob/gone", "abc"))
    add_peft(model, default_lora_config(model, r=2)).save_pretrained(tmp_path, save_embedding_layers=False)
    world.hub.upload("bob/orphan", tmp_path)
    with pytest.raises(ClientError) as caught:
        other.call(FLOWS + "answers", "bob/orphan")
    assert caught.value.kind == "HubError"
    assert caught.value.message.startswith("bob/gone was not loaded: ")
    assert "bob/gone is the base model of the PEFT checkpoint bob/orphan" in caught.value.message


def test_an_adapter_on_a_merged_adapter_says_that_peft_alone_cannot_load_it(world, other, base, tmp_path):
    model, _, _ = load_checkpoint(base)
    set_origin(model, Origin("bob/base", head(world, "v1")))
    first = add_peft(model, default_lora_config(model, r=2, init_lora_weights=False))
    first.save_pretrained(tmp_path / "first", save_embedding_layers=False)
    commit = world.hub.upload("bob/first", tmp_path / "first")
    more = {"loading": {"merge": True}, "hub_model_id": "alice/second"}
    sent = world.call(FLOWS + "adapt_and_push", tmp_path / "second", "bob/first", **more)
    stored = adapter_config(world, "alice/second")
    assert (stored["base_model_name_or_path"], stored["revision"]) == ("bob/first", commit)
    assert other.call(FLOWS + "answers", "alice/second") == sent
    card = world.hub.files("alice/second")["README.md"].decode()
    assert "The base model is a PEFT checkpoint too" in card
    assert "PeftModel" not in card
    more = {"loading": {"trainable": True}, "hub_model_id": "alice/third"}
    world.call(FLOWS + "adapt_and_push", tmp_path / "third", "alice/second", **more)
    assert "The base model is a PEFT checkpoint too" in world.hub.files("alice/third")["README.md"].decode()
