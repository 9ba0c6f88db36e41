"""What a card says of its base model, its data and its place is so, or it says that it does not know."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from huggingface_hub import ModelCard

from chartqa_ft.base_card import base_licence
from chartqa_ft.model_card import CardFacts, render_card
from chartqa_ft.tiny import tiny_unichart

from .test_hub_server import World

FLOWS = "tests.drivers.push_flows."
BASE = "bob/base"
INFO = f"/api/models/{BASE}/revision/"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """A hub with a tiny `bob/base` under the licence mit."""
    folder = tmp_path_factory.mktemp("truth")
    model, processor = tiny_unichart("test", image_size=64, window_size=4, init_std=0.5)
    model.save_pretrained(folder / "base")
    processor.save_pretrained(folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: mit\n---\n# A base\n")
    with World(folder, xet=False) as world:
        world.hub.upload(BASE, folder / "base")
        yield world


def head(world: World) -> str:
    return world.hub.refs(BASE)["refs/heads/main"]


def card_of(world: World, name: str, **place: str) -> str:
    return world.hub.files(name, **place)["README.md"].decode()


# ---------------------------------------------------------------- the base model's licence
@pytest.mark.parametrize("fault", [{"status": 503}, {"how": "reset"}, {"status": 429, "retry_after": 1}])
def test_a_hub_that_stumbles_is_asked_again_for_the_licence(world, fault):
    order = world.hub.fail(INFO + "main", **fault)
    assert world.call("chartqa_ft.base_card.base_licence", BASE, revision="main") == {"licence": "mit"}
    assert order.left == 0


def test_a_licence_that_could_not_be_read_is_not_taken_for_none(world, tmp_path):
    name = "alice/unread"
    world.hub.fail(INFO + head(world), status=401, times=None)
    try:
        world.call(FLOWS + "push_saved", tmp_path, name, BASE)
    finally:
        world.hub.mend()
    card = card_of(world, name)
    assert "| licence | unknown: the base model's card could not be read when this one was written |" in card
    assert "was not read: look at its card" in card
    assert "states none" not in card
    assert ModelCard(card).data.license == "unknown"
    assert "the licence of the base model is unknown" in world.client.log.read_text()
    world.call(FLOWS + "push_saved", tmp_path, name, BASE)
    assert ModelCard(card_of(world, name)).data.license == "mit"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"license: [mit\nx: 1", "the head of {} is no YAML (line 3 of it)"),
        (b"license: 'mit", "is no YAML"),
        (b"- license", "{} cannot be read (repo card metadata block should be a dict)"),
        (b"license: \xff", "{} cannot be read ('utf-8'"),
    ],
)
def test_a_damaged_card_of_a_local_base_stops_nothing(tmp_path, caplog, head, said):
    card = tmp_path / "README.md"
    card.write_bytes(b"---\n" + head + b"\n---\n# A base\n")
    with caplog.at_level(logging.WARNING, "chartqa_ft"):
        assert base_licence(str(tmp_path)) == {"licence_unread": True}
    assert said.format(card) in caplog.text


def test_several_licences_are_carried_over(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: [mit, apache-2.0]\nmodel-index: 5\n---\n# A base\n")
    given = base_licence(str(tmp_path))
    assert given == {"licence": ["mit", "apache-2.0"]}
    card = render_card(CardFacts(name="alice/model", kind="full", base_model="bob/base", **given))
    assert ModelCard(card).data.to_dict()["license"] == ["mit", "apache-2.0"]
    assert "| licence | mit, apache-2.0, carried over from the base model |" in card
    card = render_card(CardFacts(name="alice/model", kind="full", licence=["mit", "My Own 1"]))
    data = ModelCard(card).data
    assert (data.license, data.license_name) == ("other", "mit-my-own-1")


# ---------------------------------------------------------------- while training
def test_what_cannot_be_set_aside_for_a_push_does_not_stop_the_training(world, tmp_path):
    (tmp_path / ".push").write_text("not a folder")
    ended = world.call(
        FLOWS + "train_alone",
        tmp_path,
        BASE,
        hub_model_id="alice/no-room",
        hub_strategy="every_save",
        save_strategy="steps",
        save_steps=1,
        push_to_hub=True,
        hub_always_push=True,
    )
    assert ended["steps"] == 2
    assert len(ended["warnings"]) == 2
    assert all(".push" in text and text.startswith("a push while training failed, and") for text in ended["warnings"])


# ---------------------------------------------------------------- where it is
@pytest.mark.parametrize("lora", [False, True])
def test_snippets_load_the_branch_that_was_pushed_to(world, tmp_path, lora):
    name = f"alice/branch-{lora}"
    world.call(FLOWS + "push_saved", tmp_path, name, BASE, hub_revision="trial", lora=lora)
    assert "README.md" not in world.hub.files(name)
    card = card_of(world, name, revision="trial")
    ours, plain = world.call("tests.drivers.card_flows.snippets", card)
    assert plain
    assert ours == str([plain])


def test_the_main_branch_needs_no_name():
    for revision in (None, "main"):
        card = render_card(CardFacts(name="alice/model", kind="full", revision=revision))
        assert "load_checkpoint('alice/model')" in card


def test_the_branch_is_told_as_text():
    card = render_card(CardFacts(name="alice/model", kind="full", revision="a'b\"\n```\n# out"))
    assert "load_checkpoint('alice/model', revision='a\\'b\"\\n```\\n# out')" in card
