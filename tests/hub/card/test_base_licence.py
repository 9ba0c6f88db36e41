"""The licence that a base model's card states."""

from __future__ import annotations

import logging

import pytest
from huggingface_hub import ModelCard

from chartqa_ft.hub import CardFacts
from chartqa_ft.hub.card.base_licence import base_licence
from chartqa_ft.hub.card.render import render_card


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"license: [mit\nx: 1", "the metadata of {} is not valid YAML (line 3)"),
        (b"license: 'mit", "is not valid YAML"),
        (b"- license", "the metadata of {} is not a mapping"),
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
    assert "| license | mit, apache-2.0, carried over from the base model |" in card
    card = render_card(CardFacts(name="alice/model", kind="full", licence=["mit", "My Own 1"]))
    data = ModelCard(card).data
    assert (data.license, data.license_name) == ("other", "mit-my-own-1")
