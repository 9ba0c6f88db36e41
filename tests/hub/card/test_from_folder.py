"""The card of a folder says what its files say, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from chartqa_ft.evaluation.report import write_report
from chartqa_ft.hub.card.from_folder import facts_of_folder
from chartqa_ft.hub.card.metadata import read_card
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.scripts.arguments import DataArguments, MixedDataArguments

SCORES = {"eval_relaxed_accuracy": 0.5, "eval_n": 40, "eval_relaxed_accuracy_human": 0.25, "eval_n_human": 20}
SCRIPT = {
    "model_name_or_path": "alice/base",
    "dataset_name": "alice/charts",
    "train_split": "train",
    "eval_split": "val",
    "final_num_beams": 4,
    "generation_num_beams": 1,
    "metric_variant": "lenient",
}


def written(folder: Path, **files) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def no_licence(monkeypatch):
    """The card of the base model, which is on the Hub."""
    asked = []
    monkeypatch.setattr(
        "chartqa_ft.hub.card.from_folder.base_licence",
        lambda *args, **settings: asked.append(args) or {"licence": "mit"},
    )
    return asked


@pytest.mark.parametrize(
    ("others", "weights", "names", "trained_on"),
    [
        (["bob/more"], [3, 1], ["bob/more"], "train of a mixture of charts (75 %) and more (25 %)"),
        (["bob/more"], [3], ["bob/more"], "train of a mixture of charts and more"),
        (["bob/more"], ["3", None], ["bob/more"], "train of a mixture of charts and more"),
        (["bob/more"], [1e308, 1e308], ["bob/more"], "train of a mixture of charts (50 %) and more (50 %)"),
        (["bob/more"], [10**400, 1], ["bob/more"], "train of a mixture of charts and more"),
        (["bob/more", 5, "bob/last"], [1, 1, 1], [], "train"),
        ([5], None, [], "train"),
        ("bob/more", None, [], "train"),
        (7, 7, [], "train"),
    ],
)
def test_the_data_sets_of_a_mixture_even_of_a_damaged_file(tmp_path, others, weights, names, trained_on):
    script = {**SCRIPT, "other_datasets": others, "dataset_weights": weights}
    folder = written(tmp_path, config={}, metrics={"arguments": script, "train_loss": 0.5, **SCORES})
    facts = facts_of_folder(folder, "alice/mine")
    assert (facts.other_datasets, facts.train_split) == (names, trained_on)


def test_local_data_is_not_named_as_data_on_the_hub(tmp_path):
    """`write_report` shortens the path of a folder, so that it may look like a name on the Hub."""
    own = tmp_path / "own-charts"
    own.mkdir()
    script = MixedDataArguments(dataset_name=["HuggingFaceM4/ChartQA", str(own), "/data/tables.csv"])
    write_report(tmp_path, script, {"train_loss": 0.5, **SCORES}, None)
    data = ModelCard(render_card(facts_of_folder(written(tmp_path, config={}), "alice/mine"))).data
    assert data.datasets == ["HuggingFaceM4/ChartQA"]
    write_report(tmp_path, DataArguments(dataset_name=str(own)), {"train_loss": 0.5, **SCORES}, None)
    card = render_card(facts_of_folder(tmp_path, "alice/mine"))
    assert ModelCard(card).data.datasets is None
    assert "own-charts, trained on train" in card
    assert "huggingface.co/datasets" not in card


def test_a_trained_model(tmp_path, no_licence):
    folder = written(
        tmp_path,
        config={"model_type": "vision-encoder-decoder"},
        chartqa_config={"adapter": "decoder-prompt", "prompt": "<chartqa> {question} <s_answer>", "compat": True},
        metrics={"arguments": SCRIPT, "train_loss": 0.5, **SCORES},
    )
    facts = facts_of_folder(folder, "alice/mine", revision="v2", token="t")
    assert (facts.kind, facts.base_model, facts.licence, facts.revision) == ("full", "alice/base", "mit", "v2")
    assert (facts.dataset, facts.train_split, facts.eval_split) == ("alice/charts", "train", "val")
    assert (facts.metric_variant, facts.decoding, facts.compat) == ("lenient", {"num_beams": 4}, True)
    assert no_licence == [("alice/base", "t")]
    card = render_card(facts)
    scores = {"relaxed_accuracy": 0.5, "n": 40, "relaxed_accuracy_human": 0.25, "n_human": 20}
    assert read_card(card) == {**scores, "relaxed_accuracy_confidence": 0.95}
    assert "<chartqa> {question} <s_answer>" in card


def test_peft_weights_name_their_base(tmp_path):
    peft = {"base_model_name_or_path": "bob/vlm", "revision": "abc", "peft_type": "LORA", "r": 4}
    facts = facts_of_folder(written(tmp_path, adapter_config=peft), "alice/mine")
    assert (facts.kind, facts.base_model, facts.base_revision) == ("lora", "bob/vlm", "abc")
    assert read_card(render_card(facts)) == {}


def test_a_merged_model_names_its_method_and_base(tmp_path, no_licence):
    origin = {"peft_type": "LOHA", "base_model": "bob/vlm", "base_revision": "abc"}
    facts = facts_of_folder(written(tmp_path, config={}, chartqa_config={"merged": origin}), "alice/mine")
    assert (facts.kind, facts.base_model, facts.base_revision, facts.licence) == ("merged", "bob/vlm", "abc", "mit")
    assert no_licence == [("bob/vlm", None)]
    card = render_card(facts)
    assert "[bob/vlm](https://huggingface.co/bob/vlm) fine-tuned with LoHa" in card
    assert "bob/vlm), revision abc |" in card


@pytest.mark.parametrize("damaged", ["LORA", 7, [], {}, None])
def test_a_model_is_not_merged_by_a_damaged_file(tmp_path, damaged):
    facts = facts_of_folder(written(tmp_path, config={}, chartqa_config={"merged": damaged}), "alice/mine")
    assert (facts.kind, facts.base_model) == ("full", None)
    assert "fine-tuned (all weights)" in render_card(facts)


def test_an_evaluation_of_the_folder_is_no_training(tmp_path):
    """Its model_name_or_path is the folder itself."""
    folder = written(tmp_path, config={}, metrics={"arguments": SCRIPT, **SCORES})
    facts = facts_of_folder(folder, "alice/mine")
    assert (facts.base_model, facts.train_split, facts.eval_split) == (None, None, "val")
    assert read_card(render_card(facts))["relaxed_accuracy"] == 0.5


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json is damaged"):
        facts_of_folder(tmp_path, "alice/mine")


def test_an_empty_folder_has_a_card_without_claims(tmp_path):
    facts = facts_of_folder(tmp_path, "alice/mine")
    assert (facts.base_model, dict(facts.metrics), facts.dataset) == (None, {}, None)
    assert read_card(render_card(facts)) == {}


@pytest.mark.parametrize(
    ("arguments", "scored_on"),
    [
        ({}, "val"),
        ({"split_file": "out/split.json"}, "the charts of split.json, held out"),
        ({"eval_split": "", "split_file": None}, None),
        ({"eval_split": None, "held_out": 0.25, "split_seed": 7}, "25% of its charts, held out (split_seed 7)"),
        ({"held_out": 0.25, "split_file": "split.json"}, "the charts of split.json, held out"),
        ({"held_out": 0.25, "eval_data": "/data/test.csv"}, "test.csv"),
        ({"split_file": 7, "eval_split": ["val"]}, None),
    ],
)
def test_what_a_pushed_folder_was_scored_on(tmp_path, arguments, scored_on):
    metrics = {"arguments": {**SCRIPT, **arguments}, "train_loss": 0.5, **SCORES}
    facts = facts_of_folder(written(tmp_path, config={}, metrics=metrics), "alice/mine")
    assert facts.eval_split == scored_on
    assert (f"scored on {scored_on}" in render_card(facts)) == (scored_on is not None)


def test_the_main_arguments_of_the_training_are_listed(tmp_path):
    arguments = {"learning_rate": 2e-4, "max_steps": 70, "output_dir": "/home/me/out", "adam_beta2": 0.5}
    card = render_card(facts_of_folder(written(tmp_path, config={}, training_args=arguments), "alice/model"))
    assert "| learning_rate | 0.0002 |" in card
    assert "| max_steps | 70 |" in card
    assert "/home/me" not in card
    assert "Other arguments are in `training_args.json`." in card
    assert "at their defaults" not in card
    assert "not recorded.\n" not in card.partition("## Limits")[0]


def test_a_base_model_that_is_unknown_has_no_card_that_states_anything(tmp_path):
    card = render_card(facts_of_folder(written(tmp_path, config={}), "alice/model"))
    assert "| license | unknown, as the base model is |" in card
    assert "The base model was not recorded, and with it the license." in card
    assert "states none" not in card
    assert "states no license" not in card
