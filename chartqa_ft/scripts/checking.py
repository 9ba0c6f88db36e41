"""`--check`: show what a script would train, before a long training or instead of one."""

from __future__ import annotations

import logging
from typing import Any

from datasets import Dataset, Image

from ..data.splitting import content_of_charts
from ..training.checks.findings import CheckResult
from ..training.preflight.facts import measured_step, preflight
from ..training.schedule import steps_of_run
from ..training.trainer import ChartQATrainer
from .arguments import check_choice
from .errors import argument_names
from .hints import for_command_line

logger = logging.getLogger(__name__)

__all__ = ["LONG_SECONDS", "goes_on"]

LONG_SECONDS = 30 * 60.0
"""Estimated time from which on a training is long."""
_FEW_STEPS = 100
"""Steps up to which a training is taken for short without measuring one of them."""


def goes_on(trainer: ChartQATrainer, check: str = "auto", *, resumed: bool = False) -> bool:
    """Print what would be trained as `--check` says, and return whether to train.

    If nothing is printed, a warning tells how many charts are in both the training and the evaluation data.

    Args:
        trainer: the trainer with all that it needs.
        check: `"True"`: print it, and do not train. `"auto"`: print it if the training would take more than 30
            minutes by a measured step, and train. `"False"`: train. A training of up to 100 steps counts as short.
        resumed: whether the training goes on from a checkpoint; `"auto"` then prints nothing.

    Raises:
        SystemExit: `check` is `"True"`, and the training would be refused.
        ValueError: `check` is something else.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import ChartQATrainingArguments, synthetic_chartqa, tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> args = ChartQATrainingArguments(tempfile.mkdtemp(), max_steps=1, report_to="none", use_cpu=True)
        >>> trainer = ChartQATrainer(model, args, synthetic_chartqa(1, seed=0), processing_class=processor)
        >>> goes_on(trainer, "False"), goes_on(trainer, "auto")
        (True, True)
    """
    check = check_choice(check)
    result = None
    if trainer.is_world_process_zero() and check == "True":
        result = trainer.check(measure=True)
    elif trainer.is_world_process_zero() and check == "auto" and not resumed:
        result = _checked_if_long(trainer)
    if result is not None:
        print(_in_words(result))
        trainer.was_shown = True
    elif trainer.is_world_process_zero() and not resumed:  # its start said so; this reads every chart
        _warn_of_shared_charts(trainer.train_dataset, trainer.eval_dataset)
    trainer.accelerator.wait_for_everyone()
    if check == "True" and result is not None and not result.ok:
        raise SystemExit("error: the training would be refused, see above")
    return check != "True"


def _warn_of_shared_charts(training: Any, evaluation: Any) -> None:
    """Warn of charts of the evaluation that are trained on: the same files, which are compared without decoding them.

    What is printed of a long training tells about other copies too.
    """
    for records in (training, evaluation):
        image = records.features.get("image") if isinstance(records, Dataset) else None
        if not isinstance(image, Image) or "chart_id" not in records.column_names:
            return
    evaluated = set(content_of_charts(evaluation))
    shared = evaluated & set(content_of_charts(training))
    if shared:
        logger.warning(
            "%d of %d evaluation charts are in the training data too: leave them out of one of the two, because the "
            "score is to tell about new charts",
            len(shared),
            len(evaluated),
        )


def _in_words(result: CheckResult) -> str:
    """Return the findings as text; errors and warnings name arguments as the command line does."""
    lines = []
    for finding in result.findings:
        text = str(finding)  # facts may quote records, which stay as they are
        lines.append(text if finding.level == "info" else for_command_line(text, argument_names()))
    return "\n".join(f"{finding.level}: {line}" for finding, line in zip(result.findings, lines, strict=True))


def _checked_if_long(trainer: ChartQATrainer) -> CheckResult | None:
    _, total = steps_of_run(trainer.train_dataset, trainer.args, trainer.args.world_size)
    if total is None or total <= _FEW_STEPS:
        return None
    step = measured_step(trainer)
    if step is None or (step.run_seconds or 0) <= LONG_SECONDS:
        return None
    return CheckResult([*trainer.check("train").findings, *preflight(trainer, step=step)])
