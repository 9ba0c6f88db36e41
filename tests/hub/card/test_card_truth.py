"""What a card says of its base model, its data and its place is so, or it says that it does not know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import pytest
from huggingface_hub import ModelCard

from chartqa_ft.evaluation.report import write_report
from chartqa_ft.hub import CardFacts, read_card
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.models.chartqa_config import read_settings
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.tiny import tiny_unichart
from chartqa_ft.scripts.arguments import ModelArguments
from chartqa_ft.scripts.running import card_facts

from ...hub_client import ClientError
from ...project.test_hub_server import World
from ...support.common import drawn_charts, trainer
from ...support.hub_charts import as_m4
from ...support.launching import ROOT, example

FLOWS = "tests.drivers.push_flows."
BASE = "bob/base"
SCORED = relaxed_accuracy(predictions=["1", "2"], references=["1", "3"], sources=["human", "augmented"])
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
    assert world.call("chartqa_ft.hub.card.base_licence.base_licence", BASE, revision="main") == {"licence": "mit"}
    assert order.left == 0


def test_a_licence_that_could_not_be_read_is_not_taken_for_none(world, tmp_path):
    name = "alice/unread"
    world.hub.fail(INFO + head(world), status=401, times=None)
    try:
        world.call(FLOWS + "push_saved", tmp_path, name, BASE)
    finally:
        world.hub.mend()
    card = card_of(world, name)
    assert "| license | unknown: the base model's card could not be read when this card was written |" in card
    assert "could not be read. See its card" in card
    assert "states none" not in card
    assert ModelCard(card).data.license == "unknown"
    assert "the license of the base model is unknown" in world.client.log.read_text()
    world.call(FLOWS + "push_saved", tmp_path, name, BASE)
    assert ModelCard(card_of(world, name)).data.license == "mit"


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


# ---------------------------------------------------------------- the data, and no folder of this machine
def test_scripts_tell_the_commit_of_the_data_and_no_folder(world, tmp_path):
    data, name = "HuggingFaceM4/ChartQA", "alice/script"
    charts = {f"data/{split}-00000-of-00001.parquet": as_m4(drawn_charts(2)) for split in ("train", "val")}
    commit = world.hub.upload(data, charts, repo_type="dataset")
    world.call("tests.drivers.card_flows.train_as_script", tmp_path, BASE, data, hub_model_id=name)
    card = card_of(world, name)
    assert f"[{data}](https://huggingface.co/datasets/{data}), revision {commit}, trained on" in card
    (result, *_) = ModelCard(card).data.eval_results
    assert (result.dataset_type, result.dataset_revision, result.dataset_split) == (data, commit, "val[:4]")
    files = world.hub.files(name)
    report, arguments = (json.loads(files[file]) for file in ("metrics.json", "training_args.json"))
    assert report["arguments"]["model_name_or_path"] == "base"
    assert report["best_checkpoint"] == "checkpoint-1"
    assert arguments["output_dir"] == tmp_path.name
    assert not [path for path, content in files.items() if str(tmp_path.parent).encode() in content]
    # What is pushed while training says the same of the data.
    first = world.hub.files(name, revision=world.hub.commits(name)[-2].sha)["README.md"].decode()
    assert f"revision {commit}, trained on" in first


def test_the_revision_of_a_script_is_not_taken_for_that_of_the_base():
    script = ModelArguments(model_name_or_path="alice/adapter", model_revision="tag1")
    assert not {"base_revision", "dataset", "dataset_revision"} & set(card_facts(script))


def test_own_data_is_named_by_its_file(tmp_path):
    own = example(ROOT / "examples" / "finetune_own_data.py")
    script = own.ScriptArguments(dataset_name=str(tmp_path / "questions.csv"), held_out=0.25, split_seed=3)
    card = render_card(CardFacts(name="a/b", kind="full", metrics=SCORED, **own.data_facts(script)))
    assert "| data | questions.csv, scored on 25% of its charts, held out (split_seed 3) |" in card
    data = ModelCard(card).data
    assert (data.datasets, data.eval_results[0].dataset_name) == (None, "questions.csv")
    script = own.ScriptArguments(dataset_name="train.csv", eval_data=str(tmp_path / "test.csv"))
    assert own.data_facts(script) == {"dataset": "train.csv", "eval_split": "test.csv"}
    assert own.data_facts(own.ScriptArguments(dataset_name="alice/charts"))["dataset"] == "alice/charts"


def test_a_card_without_data_does_not_point_at_it():
    card = render_card(CardFacts(name="a/b", kind="full", metrics=SCORED))
    assert "data set above" not in card
    assert "The evaluation data was not named" in card


def test_scores_of_one_of_several_data_sets_are_named(tmp_path):
    charts = drawn_charts()
    parts = {"own": charts.select(range(3)), "other": charts.select(range(2))}
    made = trainer(tmp_path, eval_dataset=parts)
    made.evaluate()
    made._describe(tmp_path, kind="full", token=None, include_images=False)
    card = (tmp_path / "README.md").read_text()
    assert "these are the scores on other." in card
    assert ModelCard(card).data.eval_results[0].dataset_split == "other"
    assert read_card(card)["n"] == 2
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert (report["eval_dataset"], report["eval_n"]) == ("other", 2)


def test_what_is_no_number_is_null_in_the_report(tmp_path):
    made = trainer(tmp_path, eval_dataset=drawn_charts().select(range(2)), compute_metrics=lambda _: {"own": math.nan})
    made.evaluate()
    made._describe(tmp_path, kind="full", token=None, include_images=False)
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text)["eval_own"] is None
    assert "NaN" not in text
    write_report(tmp_path, ModelArguments(), {"eval_own": math.inf}, None)
    assert json.loads((tmp_path / "metrics.json").read_text())["eval_own"] is None


# ---------------------------------------------------------------- before there is anything to push
def test_a_public_repository_is_no_private_one_before_training(world, tmp_path):
    world.hub.create_repo("alice/public")
    with pytest.raises(ClientError, match="everybody can read it, although private=True") as caught:
        world.call(FLOWS + "init_alone", tmp_path, BASE, hub_model_id="alice/public", hub_private_repo=True)
    assert caught.value.kind == "HubError"
    world.call(FLOWS + "init_alone", tmp_path, BASE, hub_model_id="alice/hidden", hub_private_repo=True)
    assert world.hub.is_private("alice/hidden")
    world.call(FLOWS + "init_alone", tmp_path, BASE, hub_model_id="alice/hidden", hub_private_repo=True)


def test_nothing_is_said_to_be_kept_before_there_is_anything(world, tmp_path):
    with pytest.raises(ClientError) as caught:
        world.call(FLOWS + "init_alone", tmp_path, BASE, hub_model_id="carol/model")
    assert "the name is taken" in caught.value.message
    assert "kept" not in caught.value.message


# ---------------------------------------------------------------- damaged settings
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged (Expecting property name"),
        ("[1]", "is damaged (it does not hold a JSON object): fetch or save the model again"),
        ('{"prompt": 5}', ": prompt must be text, not 5: correct it, or save the model again"),
        ('{"compat": "no"}', ": compat must be true or false, not 'no': correct it"),
    ],
)
def test_damaged_settings_are_named(tmp_path, text, said):
    path = tmp_path / "chartqa_config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path} {said}".replace(" :", ":"))):
        read_settings(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"peft_type": "NOPE"}', "{}"])
def test_a_damaged_adapter_config_is_named(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/adapter_config.json ")):
        load_checkpoint(tmp_path)
