"""What a chat template writes around an answer, and the date that some templates write into the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

_CODES = [f"%{code}" for code in "aAbBcdfHIjmMpSUwWxXyY"]
_MACRO = """{%- macro strftime_now(format) -%}
{%- set made = namespace(text=format) -%}
{%- for code, value in VALUES.items() -%}{%- set made.text = made.text | replace(code, value) -%}{%- endfor -%}
{{- made.text -}}
{%- endmacro -%}
"""
CLOCK = "strftime_now"
"""Name of the function with which chat templates of transformers read today's date."""


def reads_clock(template: Any) -> bool:
    """Return whether a chat template, or one of a dict of several, may write today's date into the prompt.

    Example:
        >>> reads_clock("Today is {{ strftime_now('%Y-%m-%d') }}."), reads_clock("{{ messages }}"), reads_clock(None)
        (True, False, False)
    """
    templates = template.values() if isinstance(template, Mapping) else [template]
    return any(CLOCK in one for one in templates if isinstance(one, str))


def default_template(template: Any) -> Any:
    """Return the chat template for conversations without tools: that named `default`, if there are several.

    Raises:
        ValueError: There are several, and none has this name.

    Example:
        >>> default_template({"default": "{{ messages }}", "tool_use": "{{ tools }}"})
        '{{ messages }}'
    """
    if not isinstance(template, Mapping):
        return template
    if "default" not in template:
        names = ", ".join(repr(name) for name in template)
        raise ValueError(
            f"the processor has the chat templates {names}, and none is named 'default': choose one with "
            "processor.chat_template = processor.chat_template[...]"
        )
    return template["default"]


def check_date(value: Any) -> str:
    """Return a date in ISO format (`"2025-12-31"`).

    Raises:
        ValueError: It is not in this format.

    Example:
        >>> check_date("2025-12-31")
        '2025-12-31'
    """
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise ValueError(f"prompt_date must be a date like '2025-12-31', got {value!r}") from None


def with_date(template: Any, prompt_date: str) -> Any:
    """Return a chat template, or a dict of several, that writes `prompt_date` in place of today's date.

    A macro of the name of the function precedes the template. transformers hands no functions on to templates.

    Example:
        >>> from transformers.utils.chat_template_utils import render_jinja_template
        >>> template = with_date("It is {{ strftime_now('%d %b %Y') }}.", "2025-12-31")
        >>> render_jinja_template([[]], chat_template=template)[0]
        ['It is 31 Dec 2025.']
    """
    if isinstance(template, Mapping):
        return {name: with_date(one, prompt_date) for name, one in template.items()}
    if not reads_clock(template):
        return template
    moment = datetime.fromisoformat(prompt_date)
    values = {code: moment.strftime(code) for code in _CODES}
    values |= {f"%-{code}": moment.strftime(f"%{code}").lstrip("0") or "0" for code in "dmyHIMSj"}
    return _MACRO.replace("VALUES", repr(values)) + template


def frame_of(prompt: str, full: str, answer: str, tokenizer: Any, ends: frozenset[int]) -> tuple[str, str, int]:
    """Return what surrounds an answer: (end of the prompt, start of the answer, EOS).

    Text between prompt and answer is part of the answer if it is whitespace, else of the prompt (such as an empty
    block of reasoning). The EOS is the first token after the answer that is no ordinary text. This holds for templates
    that write a past answer differently from the one to generate too (Gemma 4: without its empty thought).

    Args:
        prompt: The conversation up to where the answer is generated.
        full: The conversation with the answer.
        answer: The answer.
        tokenizer: The tokenizer.
        ends: Ids that end a generated answer.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> tokenizer = tiny_unichart("test")[1].tokenizer
        >>> frame_of("<chartqa> a <s_answer>", "<chartqa> a <s_answer> 7</s>", "7", tokenizer, frozenset())
        ('', ' ', 2)
    """
    # Gemma has tokens for line breaks, which end no answer.
    added = (index for token, index in tokenizer.get_added_vocab().items() if token.strip())
    special = {*ends, *tokenizer.all_special_ids, *added}
    before, found, tail = full.rpartition(answer)

    def ids(text: str) -> list[int]:
        return tokenizer([text], add_special_tokens=False)["input_ids"][0]

    eos = next((token for token in ids(tail) if token in special), tokenizer.eos_token_id)
    if found and before.startswith(prompt):
        lead = before[len(prompt) :]
        return (lead, "", eos) if lead.strip() else ("", lead, eos)
    # A space separates words, but no word follows markup.
    after_word = not prompt[-1:].isspace() and not special.intersection(ids(prompt)[-1:])
    return "", " " if after_word else "", eos if found else tokenizer.eos_token_id
