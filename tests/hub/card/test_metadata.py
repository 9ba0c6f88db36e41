"""The metadata of a card: numbers come back, and licences and names are those of the Hub."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from peft import PeftType

from chartqa_ft.hub import read_card
from chartqa_ft.hub.card.markdown import escaped
from chartqa_ft.hub.card.render import render_card

from .examples import facts, of_accuracy, scores


@pytest.mark.parametrize("sources", [["human"] * 3 + ["augmented"] * 4, ["human"] * 7, ["unknown"] * 7, ["own"] * 7])
def test_the_numbers_come_back(sources, tmp_path):
    metrics = scores(sources=sources, question_types=["Multi Choice"] * 2 + ["Fact"] * 5)
    card = render_card(facts(metrics=metrics))
    assert read_card(card) == of_accuracy(metrics)
    assert "nan" not in card.lower().replace("finance", "")
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert read_card(tmp_path) == read_card(tmp_path / "README.md") == read_card(str(tmp_path)) == read_card(card)


def test_numbers_of_the_trainer_are_read_with_their_prefix():
    metrics = scores()
    prefixed = {f"eval_{key}": np.float64(value) for key, value in metrics.items()} | {"eval_loss": 1.0, "epoch": 2}
    assert read_card(render_card(facts(metrics=prefixed, metric_prefix="eval_"))) == of_accuracy(metrics)


def test_the_model_index_says_what_was_measured():
    card = ModelCard(render_card(facts()))
    (model,) = yaml.safe_load(card.content.split("---\n")[1])["model-index"]
    assert model["name"] == "alice/chart-reader"
    (result,) = model["results"]
    assert result["task"] == {"type": "visual-question-answering", "name": "Chart question answering"}
    dataset = {"type": "HuggingFaceM4/ChartQA", "name": "ChartQA", "split": "test", "revision": "def456"}
    assert result["dataset"] == dataset
    human, augmented, mean, pooled = result["metrics"]
    assert [metric["value"] for metric in (human, augmented, mean, pooled)] == [66.67, 75.0, 70.83, 71.43]
    assert {metric["type"] for metric in result["metrics"]} == {"relaxed_accuracy"}
    low, high = (scores()[f"relaxed_accuracy_human_ci_{end}"] for end in ("low", "high"))
    assert human["args"] == {
        "variant": "pix2struct",
        "num_beams": 4,
        "max_new_tokens": 128,
        "step": 4000,
        "questions": "human",
        "n": 3,
        "fraction": 2 / 3,
        "ci_low": low,
        "ci_high": high,
        "confidence": 0.95,
    }
    assert human["config"] == "pix2struct"
    assert mean["args"]["n"] == 7


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.5"])
def test_what_is_no_number_has_no_row(value):
    metrics = {**scores(), "relaxed_accuracy_human": value, "relaxed_accuracy_mean_of_splits": value}
    found = read_card(render_card(facts(metrics=metrics)))
    assert set(found) == {key for key in of_accuracy(scores()) if "human" not in key and "mean" not in key}
    limitless = {**scores(), "relaxed_accuracy_ci_low": value}
    assert "relaxed_accuracy_ci_low" not in read_card(render_card(facts(metrics=limitless)))


def test_a_number_that_was_changed_by_hand_is_noticed():
    card = render_card(facts())
    with pytest.raises(ValueError, match="changed by hand"):
        read_card(card.replace("value: 66.67", "value: 96.67"))


@pytest.mark.parametrize(
    ("kind", "library", "relation"),
    [("full", "transformers", "finetune"), ("merged", "transformers", "finetune"), ("lora", "peft", "adapter")],
)
def test_kind_base_and_licence(kind, library, relation):
    data = ModelCard(render_card(facts(kind=kind))).data
    assert (data.library_name, data.base_model, data.base_model_relation) == (library, "bob/base", relation)
    assert (data.license, data.datasets, data.pipeline_tag) == (
        "apache-2.0",
        ["HuggingFaceM4/ChartQA"],
        "image-text-to-text",
    )
    assert ("lora" in data.tags) == (kind == "lora")


def test_all_data_sets_of_a_mixture_that_are_on_the_hub_are_named(tmp_path):
    own = tmp_path / "own.csv"
    own.touch()
    others = ["ahmed-masry/chart-qa-pro", str(own), "HuggingFaceM4/ChartQA"]
    data = ModelCard(render_card(facts(other_datasets=others))).data
    assert data.datasets == ["HuggingFaceM4/ChartQA", "ahmed-masry/chart-qa-pro"]


def test_licences():
    def of(**changes):
        data = ModelCard(render_card(facts(**changes))).data.to_dict()
        return [data.get(key) for key in ("license", "license_name", "license_link")]

    assert of(licence=None) == ["unknown", None, None]
    assert "license | unknown: the base model's card states none" in render_card(facts(licence=None))
    assert "The base model's card states no license." in render_card(facts(licence=None))
    link = "https://example.org/licence"
    assert of(licence="other", licence_name="qwen", licence_link=link) == ["other", "qwen", link]
    assert of(licence="My Own: Licence 1.0") == ["other", "my-own-licence-1.0", None]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_card_that_was_cut_within_its_metadata_is_refused(part, tmp_path):
    card = render_card(facts())
    end = card.index("\n---\n", 4)
    assert read_card(card[: end + 5]) == read_card(card)
    (tmp_path / "README.md").write_text(card[: int(part * end)], encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md cannot be read: its metadata do not end"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["# A\n\n---\n\nmodel\n", "\n", "---\n---\n# A model\n", "--- \nlicense: mit\n"])
def test_a_card_without_metadata_has_no_scores(text):
    assert read_card(text) == {}


@pytest.mark.parametrize(
    ("peft_type", "name", "tag"),
    [
        (PeftType.LORA, "LoRA", "lora"),
        ("IA3", "IA3", "ia3"),
        ("LN_TUNING", "LayerNorm tuning", "layernorm-tuning"),
        (None, "LoRA", "lora"),
        ("<b>\n---", str(escaped("<b>\n---")), "b"),
        ({"a": 1}, None, "a-1"),
    ],
)
def test_the_method_of_peft_weights_is_named(peft_type, name, tag):
    card = render_card(facts(kind="lora", peft_config={"peft_type": peft_type}))
    merged = render_card(facts(kind="merged", peft_config={"peft_type": peft_type}))
    assert tag in ModelCard(card).data.tags
    assert ("lora" in ModelCard(card).data.tags) == (tag == "lora")
    assert tag not in ModelCard(merged).data.tags
    if name is not None:
        assert f"\n{name} weights for [bob/base]" in card
        assert f"fine-tuned with {name} to answer" in merged
        assert f"The {name} weights are merged" in merged
