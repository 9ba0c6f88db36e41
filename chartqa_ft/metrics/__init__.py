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
from .rewards import as_grpo_dataset, format_reward, length_reward, relaxed_accuracy_reward
from .table import format_table

__all__ = [
    "ALIASES",
    "EXTRACTORS",
    "VARIANTS",
    "ProgramError",
    "RelaxedAccuracy",
    "anls",
    "as_grpo_dataset",
    "compare_predictions",
    "export_predictions",
    "format_reward",
    "format_table",
    "length_reward",
    "mcnemar_exact",
    "newcombe_paired_interval",
    "paired_comparison",
    "per_example_correctness",
    "read_predictions",
    "relaxed_accuracy",
    "relaxed_accuracy_reward",
    "relaxed_correctness",
    "run_program",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    # Importing `evaluate` takes seconds, and only its Metric class needs it.
    if name == "RelaxedAccuracy":
        from .hf_metric import RelaxedAccuracy

        return RelaxedAccuracy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
