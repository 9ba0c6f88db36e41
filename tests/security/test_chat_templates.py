"""A chat template of a stranger neither runs for ever nor fills the memory."""

from __future__ import annotations

import pytest

from chartqa_ft import adapter_for
from chartqa_ft.adapters import template_trial
from chartqa_ft.adapters.template_trial import check_template_ends

from ..support.families import build

CHATS = [[{"role": "user", "content": [{"type": "text", "text": "How many bars?"}]}]]
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def _less_patience(monkeypatch):
    monkeypatch.setattr(template_trial, "SECONDS", 1)


@pytest.mark.parametrize(
    ("template", "wrong"),
    [
        ("{{ (9 ** (9 ** 9)) % 7 }}", "does not end"),
        ("{% if messages[0].content[0].text|length > 3 %}" + LOOPS + "{% endif %}", "does not end"),
        ({"default": "{{ messages }}", "tool_use": LOOPS}, "does not end"),
        ("{{ 'a' * 10 ** 11 }}", "memory"),
        ("{{ 'a'|center(10 ** 11) }}", "memory"),
        ("{{ 'a' * 6000000 }}", "characters"),
    ],
    ids=["power", "later", "named", "text", "filter", "length"],
)
def test_templates_without_end(template, wrong):
    with pytest.raises(ValueError, match=wrong):
        check_template_ends(template, CHATS, {"bos_token": "<s>"})
    check_template_ends("{{ messages[0].content[0].text }}{{ bos_token }}", CHATS, {"bos_token": "<s>"})


@pytest.mark.parametrize(
    "template", ["{% for", "{{ raise_exception('no') }}", "{{ nothing.at.all }}", "{{ messages }}", None, 7]
)
def test_other_templates_are_left_to_transformers(template):
    check_template_ends(template, CHATS, {})


def test_an_adapter_refuses_it_before_it_is_used():
    model, processor = build("llava")
    assert adapter_for(model, processor)
    processor.chat_template = LOOPS
    with pytest.raises(ValueError, match="the chat template does not end within"):
        adapter_for(model, processor)


def test_a_template_is_tried_once(monkeypatch):
    check_template_ends("{{ messages }}once", CHATS, {})
    monkeypatch.setattr(template_trial, "_ask", None)
    check_template_ends("{{ messages }}once", CHATS, {})
