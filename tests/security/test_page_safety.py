"""Each sentence of the README and the pages on safety has its attack, and the page on security names what is there."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from ..support.pages import ROOT, TEXTS, without_blocks

PAGE = TEXTS["examples/security.md"]
OTHERS = {name: text for name, text in TEXTS.items() if name != "examples/security.md"}
"""`tests/security/` as a whole attacks the page on security."""
# What a sentence on safety speaks of. Tokens of a vocabulary are none of it.
SAFETY = re.compile(
    r"pickle|secret|password|strangers?\b|trust_remote_code|weights_only|private|may publish|\bno tokens"
    r"|without tokens|hub_token|skips and counts|runs code|changes no local file|names the record and the cause"
    r"|follows no link|digests|with limits"
)
ATTACKS: dict[str, tuple[str, ...]] = {
    "The error about a record that cannot be used names the record and the cause;": (
        "security/test_records.py::test_a_bad_record_of_json_is_the_only_one_lost",
        "security/test_records.py::test_a_file_of_another_kind_is_named",
        "security/test_fuzz_loader.py::test_any_damage_to_a_file_is_named",
    ),
    '`on_error="skip"` skips and counts such records.': (
        "security/test_records.py::test_a_bad_record_of_json_is_the_only_one_lost",
        "security/test_records.py::test_a_bad_row_of_a_table_is_the_only_one_lost",
        "security/test_fuzz_loader.py::test_exactly_the_bad_records_of_json_are_skipped",
    ),
    "`hub_private_repo`, `hub_revision` and `hub_create_pr` set the target.": (
        "hub/test_push.py::test_branches_pull_requests_and_owners",
        "training/test_pushing.py::test_pull_requests_branches_and_organisations",
    ),
    "`--push_images` adds three evaluated charts to the card, if you may publish them.": (
        "hub/card/test_render.py::test_only_allowed_charts_are_published",
    ),
    "A push sends only files with names that saving uses (weights, settings, processor, card with its "
    "pictures, `LICENSE`), follows no link, and changes no local file of yours.": (
        "security/test_pushed_files.py::test_only_files_that_saving_writes_are_sent",
        "security/test_pushed_files.py::test_no_link_is_followed",
        "hub/test_model_files.py::test_which_files_are_taken",
        "training/test_pushing.py::test_a_push_leaves_the_files_of_a_user_alone",
        "training/test_pushing.py::test_a_push_that_fails_leaves_the_files_of_a_user_alone",
    ),
    "It is refused, before any request, if one of them contains a token, a key or a password in a known form.": (
        "security/test_secrets.py::test_no_file_with_a_secret_is_pushed",
        "security/test_secrets.py::test_large_files_are_searched_to_their_end",
        "hub/test_model_files.py::test_what_is_refused_before_any_request",
        "hub/card/test_render.py::test_no_token_is_in_any_file",
    ),
    "The pickles of the optimizer, the schedule and the random state are sent only with "
    '`hub_strategy="checkpoint"` or `"all_checkpoints"`, which are there to resume from; loading them runs no '
    "code (`weights_only`).": (
        "security/test_pushed_files.py::test_no_linked_state_is_sent",
        "training/test_checkpoints.py",
    ),
    "Downloaded files are compared with the digests that the Hub announces, and chat templates are tried in a process "
    "with limits first.": (
        "security/test_hub_answers.py::test_weights_of_equal_size_and_other_content",
        "security/test_chat_templates.py::test_templates_without_end",
    ),
    "A repository with only a pickle is read with `weights_only` after a warning.": (
        "hub/test_download.py::test_a_pickle_alone_is_read_without_running_it",
    ),
    "Code in a repository runs only with `trust_remote_code=True`, and so do kernels and other code that settings "
    'fetch from the Hub (`attn_implementation="owner/kernel"`).': (
        "security/test_remote_code.py::test_no_kernel_is_fetched_without_trust",
        "security/test_remote_code.py::test_settings_that_fetch_code_are_refused_by_name",
        "hub/test_download.py::test_code_runs_only_where_it_is_trusted",
    ),
    "[Security](security.md) says what is promised about models and data sets of strangers, what is left to other "
    "packages, and what you have to do.": ("security/test_page_safety.py::test_the_page_is_there_and_linked",),
    "| `training_args.bin` is a pickle that holds `hub_token` in plain text | arguments as JSON, without secrets; the "
    "pickle is never written |": (
        "security/test_token_on_disk.py::test_no_secret_is_written_at_any_moment",
        "training/test_saving.py::test_saved_files_hold_no_pickle_of_arguments_and_no_token",
    ),
}
"""Sentence -> the tests that attack it, as in pytest, relative to `tests/`."""


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown page, without code and quoted messages, and the rows of its tables without tests."""
    text = re.sub(r"^> .*$", "", without_blocks(text), flags=re.MULTILINE)
    found = []
    for block in re.split(r"\n\s*\n", text):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        found += [row.rpartition("|")[0].rpartition("|")[0] + "|" for row in rows]
        prose = " ".join(line for line in block.splitlines() if not line.startswith("|"))
        found += re.split(r"(?<=[.;:!?])\s+(?=[A-Z`\[*(-])", prose)
    return [sentence.strip() for sentence in found]


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_sentence_on_safety_has_its_attack():
    stated = {sentence for text in OTHERS.values() for sentence in sentences(text)}
    found = {sentence for sentence in stated if SAFETY.search(sentence)}
    assert found - set(ATTACKS) == set(), "these sentences have no attack"
    assert set(ATTACKS) - stated == set(), "no page says this any longer"


@pytest.mark.parametrize("attack", sorted({attack for attacks in ATTACKS.values() for attack in attacks}))
def test_the_attacks_are_there(attack):
    path, _, name = attack.partition("::")
    assert (ROOT / "tests" / path).is_file()
    assert name in functions_of(path) if name else functions_of(path)
    assert not name or name in functions_of(path)


def test_a_new_sentence_would_be_found():
    text = "First. A push sends\nno secrets. Last: `x` is private.\n\n```\nno pickle\n```\n| a | a pickle | `t.py` |\n"
    assert [found for found in sentences(text) if SAFETY.search(found)] == [
        "A push sends no secrets.",
        "`x` is private.",
        "| a | a pickle |",
    ]


def test_the_page_is_there_and_linked():
    assert "(examples/security.md)" in TEXTS["README.md"]
    assert re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE) == [
        "What is promised",
        "What is upstream's",
        "What you have to do",
    ]
    for subject in ("trust_remote_code", "private=True", "HF_HOME", "--chart_cache", "hub_token"):
        assert subject in PAGE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/.]+/|[\w/]+\.(?:py|cfg|md))`", PAGE))))
def test_what_the_page_names_is_there(name):
    assert (ROOT / name).exists()
