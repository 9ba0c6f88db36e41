"""`--baseline`: the score of a model before its training, and what the training changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..metrics.comparison import compare_predictions
from ..metrics.predictions import read_predictions
from ..training.preflight.unchanged import kept_random_states
from ..training.trainer import ChartQATrainer
from .difference_table import difference_table

__all__ = ["BASELINE_NAME", "check_baseline", "difference", "score_untrained"]

BASELINE_NAME = "baseline.jsonl"
"""Name of the file with the answers of the untrained model, in the output folder."""


def check_baseline(trainer: ChartQATrainer) -> None:
    """Check that a trainer can score its model before the training.

    Raises:
        ValueError: It cannot; the message says why.
    """
    if not trainer.args.write_predictions:
        raise ValueError("--baseline compares the predictions before and after: leave out --write_predictions False")
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise ValueError(
            "--baseline would split the model for its evaluation, which DeepSpeed and FSDP do for the training alone: "
            "score the model by `chartqa-ft evaluate` first, and compare the two by `chartqa-ft compare`"
        )


def score_untrained(trainer: ChartQATrainer, num_beams: int) -> dict[str, float]:
    """Score the model of a trainer before its training, which does not depend on it, and keep its answers.

    Args:
        trainer: A trainer that has not trained yet. Its output folder gets `baseline.jsonl`.
        num_beams: Number of beams, as in the final evaluation.

    Returns:
        The metrics as `baseline_...`, the same on every process.
    """
    with kept_random_states():
        metrics = trainer.evaluate(metric_key_prefix="baseline", num_beams=num_beams)
    if trainer.is_world_process_zero():
        output = Path(trainer.args.output_dir)
        (output / "predictions" / f"baseline-step-{trainer.weights_step}.jsonl").replace(output / BASELINE_NAME)
    trainer.accelerator.wait_for_everyone()
    return metrics


def difference(before: str | Path, after: str | Path, *, variant: str = "pix2struct") -> tuple[dict[str, float], str]:
    """Return what changed between two evaluations of the same questions, as metrics and as a table.

    The intervals are paired, and account for questions that share a chart. Where the charts tell nothing about the
    variance (there is one, or all change alike), the interval is the default of `compare_predictions`, which is wider
    than the zero that the charts would give.

    Args:
        before: The predictions file of the first evaluation.
        after: That of the second one.
        variant: Variant of relaxed accuracy that scores both.

    Returns:
        Differences of relaxed accuracy as fractions, with the limits of their intervals, and the table in percent.

    Example:
        >>> import tempfile
        >>> from chartqa_ft.metrics.predictions import write_predictions
        >>> row = {"question": "How many?", "answer": "7", "source": "human"}
        >>> rows = [{**row, "index": i, "chart_id": f"{i}.png", "correct": 0.0} for i in range(4)]
        >>> runs = [[{**one, "prediction": text} for one in rows] for text in ("1", "7")]
        >>> files = [Path(tempfile.mkdtemp()) / f"{name}.jsonl" for name in ("before", "after")]
        >>> for run, file in zip(runs, files):
        ...     _ = write_predictions(run, file)
        >>> numbers, table = difference(*files)
        >>> numbers["difference_relaxed_accuracy"]
        1.0
        >>> table.splitlines()[-1].split()[:4]
        ['all', '0.00', '100.00', '+100.00']
    """
    runs = [read_predictions(file) for file in (before, after)]
    several = len({row["chart_id"] for row in runs[0]}) > 1
    parts = _parts(runs, variant, "clustered" if several else None)
    if any(found["difference_ci_low"] == found["difference_ci_high"] for found in parts.values()):
        plain = _parts(runs, variant, None)
        for name, found in parts.items():
            parts[name] = plain[name] if found["difference_ci_low"] == found["difference_ci_high"] else found
    numbers: dict[str, float] = {}
    for name, found in parts.items():
        key = "difference_relaxed_accuracy" + ("" if name == "all" else f"_{name}")
        numbers |= {key: found["difference"], f"{key}_p_value": found["p_value"]}
        numbers |= {f"{key}_ci_{end}": found[f"difference_ci_{end}"] for end in ("low", "high")}
    return numbers, "\n".join(difference_table(parts.items(), ["before", "after"], p_value="p"))


def _parts(runs: list[list[dict[str, Any]]], variant: str, interval: str | None) -> dict[str, Mapping[str, Any]]:
    """Return the comparison of two runs for each source and for all questions."""
    compared = compare_predictions(*runs, variant=variant, interval=interval)
    return {**compared.get("by_source", {}), "all": compared}
