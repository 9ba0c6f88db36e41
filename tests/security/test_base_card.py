"""A push never fails for the card of a base model, whatever is in it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import huggingface_hub
import pytest

from chartqa_ft.hub.card.base_licence import base_licence
from chartqa_ft.hub.card.facts import CardFacts
from chartqa_ft.hub.card.front_matter import front_matter
from chartqa_ft.hub.card.render import render_card

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)) + "license: *a59"
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
METADATA = {
    "deep list": "license: " + "[" * 2_000 + "]" * 2_000,
    "deep mapping": "license: " + "{a: " * 2_000 + "1" + "}" * 2_000,
    "deep elsewhere": "license: mit\nmodel-index: " + "[" * 2_000 + "]" * 2_000,
    "deep block": "license:\n" + "".join(" " * n + "-\n" for n in range(1, 600)),
    "cut": "license: " + "[" * 2_000,
    "bomb": BOMB,
    "merges": MERGES,
    "tag": "license: !!python/object/apply:os.system [touch escaped]",
    "list": "- license\n- mit",
    "mapping": "license: {name: mit}",
    "nested list": "license: [[mit]]",
    "many": "license: [" + "mit, " * 1000 + "]",
    "long": "license: " + "m" * 10_000,
    "longer than is read": "license: mit\nx: " + "m" * 1_000_000,
    "digits": "license: " + "9" * 5000,
    "surrogate": 'license: "\\ud800"',
    "keys": "? [license]\n: mit",
    "cycle": "license: &a [*a]",
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA.keys())
def test_a_local_card(tmp_path, caplog, metadata):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# A model\n", encoding="utf-8")
    found = base_licence(str(tmp_path))
    assert found == {"licence_unread": True}
    assert "the license of the base model is unknown" in caplog.text
    assert render_card(CardFacts(name="alice/model", kind="full", base_model="bob/base", **found))
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"---\nlicense: \xff\n---\n", b"---\nlicense: a\x00b\n---\n"], ids=["bom", "bytes", "nul"]
)
def test_cards_that_are_no_text(tmp_path, content):
    (tmp_path / "README.md").write_bytes(content)
    assert base_licence(str(tmp_path)) == {"licence_unread": True}


@pytest.mark.parametrize(
    "license", [json.loads("[" * 900 + "]" * 900), {"a": {"b": 1}}, [["mit"]], ["mit", None, {}], "m" * 501]
)
def test_a_card_on_the_hub(monkeypatch, license):
    info = SimpleNamespace(card_data=SimpleNamespace(license=license, license_name=None, license_link=None))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    assert base_licence("bob/base") == {"licence_unread": True}


@pytest.mark.parametrize("error", [RecursionError("deep"), KeyError("license"), TypeError("x"), AttributeError("x")])
def test_a_card_that_huggingface_hub_cannot_take(monkeypatch, error):
    def model_info(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert base_licence("bob/base") == {"licence_unread": True}


def test_usual_cards(tmp_path):
    card = tmp_path / "README.md"
    for text, found in (
        ("---\nlicense: mit\n---\n", {"licence": "mit"}),
        ("\ufeff---\r\nlicense: [mit, apache-2.0]\r\n---\r\n# A", {"licence": ["mit", "apache-2.0"]}),
        (
            "---\nlicense: other\nlicense_name: my-own\n---\n" + "x" * 500_000,
            {"licence": "other", "licence_name": "my-own"},
        ),
        ("---\ntags: [a]\n---\n", {}),
        ("# No metadata\n\n---\n\nlicense: none\n\n---\n", {}),
        ("", {}),
    ):
        card.write_text(text, encoding="utf-8", newline="")
        assert base_licence(str(tmp_path)) == found
    card.write_text("---\nlicense: mit\n---\n")
    assert front_matter(card) == {"license": "mit"}
