"""The table of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.metrics.table import ScoreRow, format_table, table_rows

from .examples import TEN


def test_table_in_plain_text_and_markdown() -> None:
    metrics = relaxed_accuracy(**TEN, question_types=["a b"] * 5 + ["c"] * 5)
    assert format_table(metrics) == "\n".join(
        [
            "questions       relaxed accuracy [%]  95 % interval   n",
            "--------------  --------------------  -------------  --",
            "human                          75.00  30.06 - 95.44   4",
            "augmented                      25.00   4.56 - 69.94   4",
            "mean of splits                 50.00  25.32 - 74.68   8",
            "pooled                         40.00  16.82 - 68.73  10",
            "a b                            60.00  23.07 - 88.24   5",
            "c                              20.00   3.62 - 62.45   5",
        ]
    )
    prefixed = {
        f"eval_{key}": value
        for key, value in relaxed_accuracy(predictions=["1"] * 1250, references=["1"] * 1250).items()
    }
    assert format_table(prefixed, prefix="eval_", markdown=True) == "\n".join(
        [
            "| questions | relaxed accuracy [%] |  95 % interval |     n |",
            "| --------- | -------------------: | -------------: | ----: |",
            "| pooled    |               100.00 | 99.69 - 100.00 | 1,250 |",
        ]
    )
    with pytest.raises(ValueError, match="prefix='eval_'"):
        format_table(prefixed)


def test_rows_come_in_one_order_whatever_the_order_of_the_keys() -> None:
    metrics = relaxed_accuracy(
        predictions=["1"] * 4,
        references=["1", "2", "1", "1"],
        sources=["own", "augmented", "human", "human"],
        question_types=["z", "a", "a", "z"],
    )
    expected = ["human", "augmented", "source_own", "mean_of_splits", "pooled", "type_z", "type_a"]
    assert [row.part for row in table_rows(metrics)] == expected
    shuffled = {key: metrics[key] for key in sorted(metrics, key=lambda key: ("type" not in key, key), reverse=True)}
    assert [row.part for row in table_rows(shuffled)][:5] == expected[:5]
    assert [line.split("  ")[0] for line in format_table(metrics).splitlines()[2:]] == [
        "human",
        "augmented",
        "own",
        "mean of splits",
        "pooled",
        "z",
        "a",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.5", True])
def test_what_is_not_a_finite_number_has_no_row(value: object) -> None:
    metrics = {**relaxed_accuracy(**TEN), "relaxed_accuracy_human": value, "n_augmented": value}
    assert [row.part for row in table_rows(metrics)] == ["pooled"]
    rows = table_rows({"relaxed_accuracy": np.float32(0.5), "n": np.int64(2), "relaxed_accuracy_ci_low": value})
    assert rows == [ScoreRow("pooled", 0.5, 2, None, None)]
    assert (rows[0].percent, rows[0].interval) == ("50.00", "")
