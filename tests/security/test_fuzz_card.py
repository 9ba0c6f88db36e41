"""Model cards of any facts: metadata that says what the facts say, and text that is only text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from chartqa_ft.hub import CardFacts, CardSample, read_card
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.hub.credentials import is_secret_name
from chartqa_ft.hub.public import redact

from ..hub.card.examples import Page, scores
from .fuzzing import damaged, fuzz, outcome, texts, values

PLAIN = "plain"
MARKUP = (
    "<script>alert(1)</script>",
    "[a](https://evil.example)",
    "![a](https://evil.example/x.png)",
    "<https://evil.example>",
    "https://evil.example",
    "---\nlicense: evil\n---",
    "```\n# x",
    "| a | b |\n|---|---|",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "!!python/object:os.system [x]",
    "&a [*a]",
    "# x",
    "\n\n- x",
    "1. x",
    "a\n===",
    "~~a~~ **a** _a_ `a` $a$ \\",
)


def words() -> st.SearchStrategy[str]:
    markup = st.lists(st.sampled_from(MARKUP) | texts(5), min_size=1, max_size=3).map("".join)
    return (texts(40) | markup).filter(lambda text: text.strip() != "")


def facts_of(text: str, **changes: Any) -> CardFacts:
    """Facts that hold `text` in every place that takes one."""
    settings: dict[str, Any] = {
        "name": f"alice/{text}",
        "kind": "full",
        "base_model": text,
        "base_revision": text,
        "revision": text,
        "licence": text,
        "licence_name": text,
        "settings": {"adapter": text, "prompt": text},
        "model_type": text,
        "dataset": text,
        "dataset_revision": text,
        "train_split": text,
        "eval_split": text,
        "metrics": scores(),
        "metric_extract": text,
        "decoding": {text: text},
        "arguments": {"optim": text, text: text},
        "peft_config": {"r": text},
        "samples": [CardSample(question=text, answer=[text], prediction=text, correct=0.0)],
        "versions": {text: text},
        "command": text,
        "created": text,
    }
    return CardFacts(**{**settings, **changes})


def front_matter(card: str) -> tuple[dict[str, Any], str]:
    found = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)  # as the Hub finds it
    assert found is not None
    return yaml.safe_load(found[1]), found[2]


FRAME = {tag for tag, _ in Page(render_card(facts_of(PLAIN))).tags}
LINKS = (
    "https://huggingface.co/",
    "https://github.com/",
    "https://arxiv.org/",
    "https://aclanthology.org/",
    "assets/",
)


@fuzz(30)
@given(text=words(), kind=st.sampled_from(["full", "lora", "merged"]))
def test_any_text_is_shown_as_text_and_read_back(text, kind):
    assume(not is_secret_name(text))  # it is the name of arguments too, and values of such a name are left out
    card = render_card(facts_of(text, kind=kind))
    kept = redact(text)
    matter, _ = front_matter(card)
    (model,) = matter["model-index"]
    for result in model["results"]:
        assert result["dataset"]["split"] == kept
        assert result["dataset"]["revision"] == kept
        assert all(metric["args"][kept] == kept for metric in result["metrics"])
    assert matter["tags"][-1] == kept
    assert set(matter) <= {
        "base_model",
        "base_model_relation",
        "datasets",
        "library_name",
        "license",
        "license_link",
    } | {
        "license_name",
        "metrics",
        "model-index",
        "pipeline_tag",
        "tags",
    }
    page = Page(card)
    assert {tag for tag, _ in page.tags} <= FRAME | {"a"}
    for tag, attributes in page.tags:
        for name in ("href", "src"):
            assert str(attributes.get(name, LINKS[0])).startswith(LINKS), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert page.of("h2") == ["Scores", "Use", "Training", "Examples", "Limits", "Reproduce"]
    assert read_card(card)["n"] == 7


OPEN = ("licence", "settings", "metrics", "decoding", "arguments", "peft_config", "log_history", "versions")
"""The facts that come from files of others, whose values may be anything."""


@fuzz(30)
@given(field=st.sampled_from(OPEN), value=values())
def test_any_value_of_a_foreign_fact_gives_a_card(field, value):
    if field == "licence":
        value = value if isinstance(value, (str, list)) else [value]
    elif field == "log_history":
        value = [{"step": 1, "loss": value}, {"step": value, "loss": 1.0}]
    else:
        value = value if isinstance(value, dict) else {"relaxed_accuracy": value, "prompt": value, "num_beams": value}
    card = render_card(facts_of(PLAIN, **{field: value}))
    matter, _ = front_matter(card)
    assert "chartqa_ft" in matter["tags"]
    assert {tag for tag, _ in Page(card).tags} <= FRAME | {"a", "img"}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("card") / "README.md"


SMALL = CardFacts(name="alice/model", kind="full", metrics={"relaxed_accuracy": 0.5, "n": 2})


@fuzz(40)
@given(data=st.data())
def test_any_damage_to_a_card_is_named_when_it_is_read(path, data):
    card = render_card(SMALL).encode()
    path.write_bytes(data.draw(damaged(card)))
    found = outcome(lambda: read_card(path), str(path))
    if isinstance(found, dict):
        assert all(isinstance(value, (int, float)) for value in found.values())


@fuzz(30)
@given(
    key=st.sampled_from(["metric_args", "args", "value", "metrics", "results", "model-index", "dataset", "task"]),
    value=values(),
)
def test_any_value_in_a_card_is_checked_when_it_is_read(path, key, value):
    def replaced(found: Any) -> Any:
        if isinstance(found, dict):
            return {name: value if name == key else replaced(item) for name, item in found.items()}
        return [replaced(item) for item in found] if isinstance(found, list) else found

    matter, body = front_matter(render_card(SMALL))
    path.write_text(f"---\n{yaml.safe_dump(replaced(matter))}---\n{body}", encoding="utf-8")
    outcome(lambda: read_card(path), str(path))
