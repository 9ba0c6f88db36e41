"""Metrics: whether an answer is right, how good a model is, and how certain that is.

Scores are fractions between 0 and 1 in every dict, and percent only in tables.
"""

from typing import Any

from .accuracy import per_example_correctness, relaxed_accuracy
from .anls import anls
from .comparison import compare_predictions
from .correctness import ALIASES, VARIANTS, relaxed_correctness
from .export import export_predictions
from .extraction import EXTRACTORS
from .intervals import mcnemar_exact, newcombe_paired_interval, paired_comparison, wilson_interval
from .predictions import read_predictions
from .programs import ProgramError, run_program
from .rationales import rationale_target, with_rationales
from .rewards import as_grpo_dataset, format_reward, length_reward, relaxed_accuracy_reward, table_reward
from .table import format_table
from .tables import FORMATS as TABLE_FORMATS
from .tables import VARIANTS as TABLE_VARIANTS
from .tables import (
    Table,
    export_tables,
    parse_table,
    per_example_table_scores,
    read_table_csv,
    table_scores,
    write_table,
)
from .texts import VARIANTS as TEXT_VARIANTS
from .texts import per_example_text_scores, text_scores

__all__ = [
    "ALIASES",
    "EXTRACTORS",
    "TABLE_FORMATS",
    "TABLE_VARIANTS",
    "TEXT_VARIANTS",
    "VARIANTS",
    "ProgramError",
    "RelaxedAccuracy",
    "Table",
    "anls",
    "as_grpo_dataset",
    "compare_predictions",
    "export_predictions",
    "export_tables",
    "format_reward",
    "format_table",
    "length_reward",
    "mcnemar_exact",
    "newcombe_paired_interval",
    "paired_comparison",
    "parse_table",
    "per_example_correctness",
    "per_example_table_scores",
    "per_example_text_scores",
    "rationale_target",
    "read_predictions",
    "read_table_csv",
    "relaxed_accuracy",
    "relaxed_accuracy_reward",
    "relaxed_correctness",
    "run_program",
    "table_reward",
    "table_scores",
    "text_scores",
    "wilson_interval",
    "with_rationales",
    "write_table",
]


def __getattr__(name: str) -> Any:
    # Importing `evaluate` takes seconds, and only its Metric class needs it.
    if name == "RelaxedAccuracy":
        from .hf_metric import RelaxedAccuracy

        return RelaxedAccuracy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
