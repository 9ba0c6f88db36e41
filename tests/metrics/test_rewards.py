"""Rewards for GRPO: the metric itself, in the signature of TRL."""

from __future__ import annotations

import inspect
import json
import math
import pickle
from functools import partial
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures

import chartqa_ft
from chartqa_ft import as_grpo_dataset, format_reward, length_reward, relaxed_accuracy_reward, table_reward
from chartqa_ft.metrics import (
    EXTRACTORS,
    TABLE_VARIANTS,
    VARIANTS,
    per_example_correctness,
    per_example_table_scores,
    table_scores,
)
from chartqa_ft.metrics.correctness import relaxed_correctness
from chartqa_ft.metrics.rewards import grpo_prompt

from ..security.fuzzing import fuzz

REWARDS = (relaxed_accuracy_reward, table_reward, format_reward, length_reward)
OF_TRL = {"trainer_state": object(), "log_extra": print, "log_metric": print, "image": [None], "source": ["human"]}


def said(text: object) -> list[dict[str, object]]:
    """A completion as TRL hands it over if prompts are messages."""
    return [{"role": "assistant", "content": text}]


# ------------------------------------------------------------------ the reward is the metric
def test_the_reward_is_the_metric_on_the_recorded_verdicts(shared: Path) -> None:
    lines = (shared / "metrics" / "reference_vectors.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    columns = {key: [row[key] for row in rows] for key in ("prediction", "target")}
    for variant in ("pix2struct", "unichart", "chartqapro"):
        found = relaxed_accuracy_reward(
            list(map(said, columns["prediction"])), answer=columns["target"], variant=variant
        )
        assert found == pytest.approx([float(row[variant]) for row in rows], abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("wrapped", [str, said])
def test_the_reward_is_the_metric_on_own_vectors(variant: str, wrapped) -> None:
    lines = (Path(__file__).parent / "metric_vectors.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = relaxed_accuracy_reward(
        [wrapped(row["prediction"]) for row in rows], answer=[row["target"] for row in rows], variant=variant
    )
    assert found == [
        relaxed_correctness(prediction=row["prediction"], target=row["target"], variant=variant) for row in rows
    ]
    assert {0.0, 1.0} <= set(found)


_ANSWERS = st.one_of(
    st.integers(-9, 2100).map(str), st.sampled_from(["Yes", "no", "12.5%", "[1, 2]", "", " 7", "1,204"])
)


@fuzz(50)
@given(
    pairs=st.lists(st.tuples(_ANSWERS, _ANSWERS), min_size=1, max_size=5),
    pattern=st.sampled_from(
        ["{}", "<answer>{}</answer>", "Answer: {}", "x</think>{}", "\\boxed{{{}}}", "print({!r})"]
    ),
    extract=st.sampled_from([None, *EXTRACTORS]),
    variant=st.sampled_from(list(VARIANTS)),
)
def test_the_reward_is_the_metric_on_drawn_answers(pairs, pattern, extract, variant) -> None:
    texts, labels = [pattern.format(text) for text, _ in pairs], [label for _, label in pairs]
    expected = per_example_correctness(predictions=texts, references=labels, variant=variant, extract=extract)
    for completions in (texts, list(map(said, texts))):
        assert relaxed_accuracy_reward(completions, answer=labels, variant=variant, extract=extract) == expected


def test_chartqapro_takes_its_columns() -> None:
    asked = {
        "answer": ["2007", "2007", "2"],
        "year_flags": [["YES"], ["NO"], ["NO"]],
        "question_type": ["Factoid", "Factoid", "Multi Choice"],
        "variant": "chartqapro",
    }
    assert relaxed_accuracy_reward(["2008", "2008", "2.05"], **asked) == [0.0, 1.0, 1.0]
    assert relaxed_accuracy_reward(["2008", "2008", "2.05"], **asked, exact_choice=True) == [0.0, 1.0, 0.0]


def test_accepted_answers_and_missing_labels() -> None:
    labels = [["7", "seven"], None, math.nan, [], [None], "7"]
    assert relaxed_accuracy_reward(["Seven"] * 6, answer=labels) == [1.0, None, None, None, None, 0.0]
    assert relaxed_accuracy_reward([], answer=[]) == []


def test_white_space_counts_unless_stripped() -> None:
    assert relaxed_accuracy_reward([" Yes\n", said(" Yes\n")], answer=["Yes", "Yes"]) == [0.0, 0.0]
    assert relaxed_accuracy_reward([" Yes\n", said(" Yes\n")], answer=["Yes", "Yes"], strip=True) == [1.0, 1.0]


# ------------------------------------------------------------------ TRL's signature
@pytest.mark.parametrize("reward", REWARDS)
def test_a_reward_takes_what_trl_passes(reward) -> None:
    passed = {**OF_TRL, "prompts": [said("How many?")], "completion_ids": [[1, 2]], "answer": ["7"], "question": ["?"]}
    (value,) = reward(completions=[said("7")], **passed)
    assert type(value) is float
    assert not inspect.iscoroutinefunction(reward)
    # a spawned worker gets the functions as pickles, with the options that were set
    assert pickle.loads(pickle.dumps(partial(reward, extract="boxed"))).keywords == {"extract": "boxed"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("7", 1.0),
        ([{"type": "text", "text": "7"}], 1.0),
        ([{"type": "image"}, {"type": "text", "text": "7"}], 1.0),
        (None, 0.0),
    ],
)
def test_the_content_of_a_message(content: object, expected: float) -> None:
    assert relaxed_accuracy_reward([[*said("8"), {"role": "tool", "content": "9"}, *said(content)]], answer=["7"]) == [
        expected
    ]


@pytest.mark.parametrize("wrong", [7, None, b"7", [], ["7"], {"content": "7"}, [{"content": 7}], [{"content": ["7"]}]])
@pytest.mark.parametrize("reward", REWARDS)
def test_other_completions_are_named(reward, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"completions\[1\]"):
        reward(["7", wrong], answer=["7", "7"])


@pytest.mark.parametrize(
    ("call", "said_of_it"),
    [
        (lambda: relaxed_accuracy_reward(["7"], answer=["7", "8"]), "there are 1 completions and 2 entries of answer"),
        (lambda: relaxed_accuracy_reward(["7"], answer=["7"], variant="relaxt"), "unknown variant"),
        (lambda: relaxed_accuracy_reward(["7"], answer=["7"], extract="boxd"), "unknown extraction"),
        (lambda: relaxed_accuracy_reward(["7"], answer=["7"], variant="detect_decimal_comma"), "whole data set"),
        (lambda: relaxed_accuracy_reward(["7"], answer=["7"], year_flags=[]), "entries of year_flags"),
        (lambda: format_reward(["7"], extract=None), "needs the name of an extraction"),
        (lambda: format_reward(["7"], extract="boxd"), "unknown extraction"),
        (lambda: length_reward(["7"], completion_ids=[]), "entries of completion_ids"),
        (lambda: length_reward(["7"], max_length=0), "max_length must be at least 1"),
        (lambda: length_reward(["7"], max_length=9, margin=10), "margin must be at most max_length, 9, and is 10"),
        (lambda: length_reward(["7"], margin=-1), "margin must be at least 0"),
        (lambda: grpo_prompt("?", prompt="Answer."), r"must contain \{question\}"),
        (lambda: as_grpo_dataset(Dataset.from_dict({}), prompt="Answer."), r"must contain \{question\}"),
    ],
)
def test_wrong_arguments(call, said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        call()


# ------------------------------------------------------------------ format and length
@pytest.mark.parametrize(
    ("extract", "text", "expected"),
    [
        ("answer_tag", "12 + 8 <answer>20</answer>", 1.0),
        ("answer_tag", "<answer> </answer>", 0.0),
        ("answer_tag", "20", 0.0),
        ("auto", "x</think> 20", 1.0),
        ("boxed", "\\boxed{20}", 1.0),
        ("program", "print(20)", 1.0),
        ("program", "print(1 / 0)", 0.0),
        ("program", "20", 0.0),
        (str.strip, " 20 ", 1.0),
    ],
)
def test_the_format_is_what_the_extraction_finds(extract: object, text: str, expected: float) -> None:
    assert format_reward([text, said(text)], extract=extract) == [expected, expected]


def test_the_length_falls_within_the_margin() -> None:
    ids = [[0] * n for n in (0, 1, 80, 81, 90, 99, 100, 101, 500)]
    expected = [1.0, 1.0, 1.0, 0.95, 0.5, 0.05, 0.0, 0.0, 0.0]
    assert length_reward([""] * 9, completion_ids=ids, max_length=100, margin=20) == expected
    assert length_reward([""] * 3, completion_ids=[[0] * n for n in (9, 10, 11)], max_length=10, margin=0) == [1, 1, 0]
    assert length_reward(["a b", said("a b c"), "a b c d"], max_length=4, margin=2) == [1.0, 0.5, 0.0]


# ------------------------------------------------------------------ data
def records() -> Dataset:
    columns = {
        "image": [Pictures.new("RGB", (4, 4), color) for color in ("red", "green", "blue")],
        "question": ["How many {apples}?", "Which?", "Why?"],
        "answer": ["7", "Peru", ""],
        "source": ["human", "augmented", "human"],
    }
    return Dataset.from_dict(columns).cast_column("image", Image())


def test_records_become_prompts_and_keep_their_columns(monkeypatch) -> None:
    dataset = records()
    with monkeypatch.context() as patched:
        patched.setattr(Image, "decode_example", lambda *_, **__: pytest.fail("an image was decoded"))
        made = as_grpo_dataset(dataset, prompt="{question} Think.", system="You read {charts}.")
    assert made.column_names == ["image", "question", "answer", "source", "prompt"]
    assert made["prompt"][0] == [
        {"role": "system", "content": "You read {charts}."},
        {"role": "user", "content": "How many {apples}? Think."},
    ]
    assert list(made["answer"]) == ["7", "Peru"]  # no label, no reward
    assert made[1]["image"].getpixel((0, 0)) == (0, 128, 0)
    rewards = relaxed_accuracy_reward(
        [said("7"), said("Chile")], **{key: list(made[key]) for key in ("answer", "source")}
    )
    assert rewards == [1.0, 0.0]


def test_streams_and_dictionaries_of_splits() -> None:
    expected = list(as_grpo_dataset(records())["prompt"])
    assert [row["prompt"] for row in as_grpo_dataset(records().to_iterable_dataset())] == expected
    assert list(as_grpo_dataset(DatasetDict(train=records()))["train"]["prompt"]) == expected


def test_the_names_are_public() -> None:
    for name in (
        "relaxed_accuracy_reward",
        "format_reward",
        "length_reward",
        "table_reward",
        "as_grpo_dataset",
        "run_program",
    ):
        assert name in chartqa_ft.__all__
        assert callable(getattr(chartqa_ft, name))


# ------------------------------------------------------------------ tables
TABLES = ["Year,EU\n2019,4\n2020,nan", "Year | EU & 2019 | 4", "no table", "", "Tea | Milk\n1 | 2"]


@pytest.mark.parametrize("variant", TABLE_VARIANTS)
@pytest.mark.parametrize("wrapped", [str, said])
def test_the_reward_of_tables_is_the_metric(variant: str, wrapped) -> None:
    pairs = [(given, right) for given in TABLES for right in (TABLES[0], TABLES[4], [TABLES[0], TABLES[4]])]
    predictions, references = [given for given, _ in pairs], [right for _, right in pairs]
    each = per_example_table_scores(predictions, references, variant=variant)
    for score in each[0]:
        found = table_reward(list(map(wrapped, predictions)), answer=references, variant=variant, score=score)
        assert found == [scores[score] for scores in each]
    mean = table_scores(predictions, references, variant=variant)["rms_f1"]
    rewards = table_reward(list(map(wrapped, predictions)), answer=references, variant=variant)
    assert sum(rewards) / len(rewards) == mean


def test_tables_after_reasoning_and_without_labels() -> None:
    reasoned = said(f"<think>Two columns.</think>{TABLES[0]}")
    assert table_reward([reasoned, reasoned], answer=[TABLES[0], None], extract="after_think") == [1.0, None]
    assert table_reward([], answer=[]) == []
    assert table_reward(["a | b"], answer=[None], score="rms") == [None]


@pytest.mark.parametrize(
    ("call", "said_of_it"),
    [
        (lambda: table_reward(["a | b"], answer=["a | b"], score="rms"), "score must be one of 'rms_precision'"),
        (lambda: table_reward(["a | b"], answer=["a | b"], variant="deplod"), "variant must be one of"),
        (lambda: table_reward(["a | b"], answer=["a | b"], extract="boxd"), "unknown extraction"),
        (lambda: table_reward(["a | b"], answer=[]), "entries of answer"),
    ],
)
def test_wrong_arguments_of_the_reward_of_tables(call, said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        call()
