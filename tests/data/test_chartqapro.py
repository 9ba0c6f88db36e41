"""The prompts of ChartQAPro, from records to scores."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from chartqa_ft import load_chartqa, relaxed_accuracy, with_chartqapro_prompts
from chartqa_ft.data.chartqapro import QUESTION_TYPES, STYLES, chartqapro_prompt

from .test_load import PRO, PRO_ROWS


def test_the_fifteen_prompts_have_the_parts_of_the_paper() -> None:
    texts = {(kind, style): chartqapro_prompt("Q?", kind, style=style) for kind in QUESTION_TYPES for style in STYLES}
    assert len(set(texts.values())) == 15
    for (kind, style), text in texts.items():
        assert text.endswith("Conversation:\nQuestion: Q?" if kind == "Conversational" else "\nQuestion: Q?")
        assert text.count("your answer should be unanswerable.") == 1
        assert ("Do not generate units." in text) == (kind not in ("Multi Choice", "Fact Checking"))
        assert ("think step-by-step" in text) == (style == "cot")
        assert ("executable python code" in text) == (style == "pot")
        assert ("multiple final answers" in text) == (style != "direct")
        assert "{" not in text
    # Table 6, Factoid, and table 8, Fact Checking, whole
    assert texts["Factoid", "direct"] == (
        "You are given a factoid question that you need to answer based on the provided image.\n"
        "Your answer should be a single word, number, or phrase. If the question is unanswerable based on the "
        "information in the provided image, your answer should be unanswerable. Do not generate units. But if "
        "numerical units such as million, m, billion, B, or K are required, use the exact notation shown in the "
        "chart.\n"
        "If there are multiple answers, put them in brackets using this format ['Answer1', 'Answer2'].\n"
        "Remember to generate the final answer only without any additional text!\n"
        "Question: Q?"
    )
    assert texts["Fact Checking", "pot"] == (
        "You are given a fact statement that you need to assess based on the information in the provided image.\n"
        "You need to write an executable python code that calculates and prints the final answer, but your final "
        "answer should be either true or false (without any additional text). If the question is unanswerable based "
        "on the information in the provided image, your answer should be unanswerable.\n"
        "If there are multiple final answers, put them in brackets using this format ['Answer1', 'Answer2'].\n"
        "Remember to return a python code only without any additional text.\n"
        "Question: Q?"
    )


def test_from_records_to_scores(tmp_path, streaming) -> None:
    pq.write_table(pa.Table.from_pylist(PRO_ROWS, PRO), tmp_path / "test.parquet")
    rows = list(with_chartqapro_prompts(load_chartqa(tmp_path, split="test", streaming=streaming), style="cot"))
    asked = [row["question"].partition("The answer is X")[2] for row in rows]
    assert asked == [
        '"\nQuestion: When?',
        '"\nConversation:\nQuestion: Who leads?\nAnswer: Norway\nQuestion: By how much?\nAnswer: 5%\n'
        "Question: Since when?",
        '"\nQuestion: The chart shows exports.\nTrue?',
    ]
    said = ["I see two. The answer is ['2016', '2018'].", "The answer is 1998.", "It rose. The answer is Yes."]
    found = relaxed_accuracy(
        predictions=said,
        references=[row["answer"] for row in rows],
        question_types=[row["question_type"] for row in rows],
        year_flags=[row["year_flags"] for row in rows],
        variant="chartqapro_official",
        extract=STYLES["cot"],
    )
    assert [found[f"relaxed_accuracy_type_{kind}"] for kind in ("factoid", "conversational", "fact_checking")] == [
        1.0,
        0.0,
        1.0,
    ]
    assert found["relaxed_accuracy"] == 2 / 3


def test_types_are_known_in_any_spelling() -> None:
    assert chartqapro_prompt("Q?", " fact_checking ") == chartqapro_prompt("Q?", "Fact Checking")
    with pytest.raises(ValueError, match=r"question_type must be one of 'Factoid'.* and is 'Extreme'"):
        chartqapro_prompt("Q?", "Extreme")
    with pytest.raises(ValueError, match="style must be one of 'direct', 'cot', 'pot'"):
        chartqapro_prompt("Q?", "Factoid", style="CoT")


def test_other_records_are_refused() -> None:
    with pytest.raises(ValueError, match="no column 'question_type'"):
        with_chartqapro_prompts(Dataset.from_dict({"question": ["Q?"]}))
    with pytest.raises(ValueError, match="style must be one of"):
        with_chartqapro_prompts(Dataset.from_dict({"question": ["Q?"]}).to_iterable_dataset(), style=None)
