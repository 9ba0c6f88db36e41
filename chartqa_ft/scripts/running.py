"""Steps of a training script: set up logging, load data and model, train, write the final score.

Example:
    ```python
    class ScriptArguments(DataArguments, ModelArguments): ...


    script, args = parse(None, ScriptArguments, description=__doc__, defaults={"learning_rate": 1e-4})
    set_up_logging(args)
    resume = checkpoint_to_resume(args, script.check)
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args)
    trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter)
    metrics = train_and_score(trainer, script, resume)
    ```
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.utils.logging import disable_progress_bar

from ..data.hub_datasets import commit_of
from ..evaluation.report import PREDICTIONS_NAME, write_report
from ..hub.card.training_data import evaluation_data, other_datasets, training_data
from ..metrics.task_table import format_scores
from ..printable import printable
from ..training.arguments import ChartQATrainingArguments
from ..training.resuming import as_choice
from ..training.running_loss import last_checkpoint
from ..training.summary import trainable_share
from ..training.trackers import kept_open, without_trackers
from ..training.trainer import ChartQATrainer
from .arguments import ModelArguments
from .baseline import BASELINE_NAME, check_baseline, difference, score_untrained
from .checking import goes_on
from .command import command_line
from .errors import log_to_terminal, one_line_errors
from .next_steps import next_commands
from .output_folder import output_folder
from .pictures import check_pictures, write_pictures
from .process import run_script

logger = logging.getLogger(__name__)

__all__ = [
    "checkpoint_to_resume",
    "one_line_errors",
    "run_script",
    "set_up_logging",
    "train_and_score",
    "trainable_share",
    "write_report",
]


_MODELS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
"""Files with the weights of a finished training, in its output folder."""


# ------------------------------------------------------------------ before training
def set_up_logging(args: ChartQATrainingArguments) -> None:
    """Show this library's log at level INFO on the main process, or at DEBUG on all with `--log_level debug`.

    Example:
        >>> set_up_logging(ChartQATrainingArguments(output_dir="out", use_cpu=True))
        >>> logging.getLogger("chartqa_ft").level == logging.INFO
        True
    """
    log_to_terminal("%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = logging.INFO if args.should_log else logging.WARNING
    logging.getLogger("chartqa_ft").setLevel(logging.DEBUG if args.log_level == "debug" else level)
    if args.device.type == "cpu" and not args.use_cpu:
        logger.info("no GPU was found: this runs on the CPU")
    disable_progress_bar()  # for loading and saving, not for training


def checkpoint_to_resume(args: ChartQATrainingArguments, check: str = "auto") -> str | None:
    """Return the checkpoint that `--resume_from_checkpoint` refers to, or `None` to start at step 0.

    `last` is the newest complete checkpoint in `output_dir`.

    Args:
        args: Arguments of the training.
        check: `--check`; with `"True"`, nothing is trained, so that no `output_dir` is refused.

    Raises:
        SystemExit: `output_dir` is a file; or it contains checkpoints and `--resume_from_checkpoint` is not set; or it
            contains the model of a finished training, which a new one would replace.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(checkpoint_to_resume(ChartQATrainingArguments(output_dir=folder, use_cpu=True)))
        None
    """
    with one_line_errors():
        output_folder(str(args.output_dir))
    found = last_checkpoint(args.output_dir)
    resume = as_choice(args.resume_from_checkpoint)
    if found and not resume and check != "True":
        raise SystemExit(f"{found} exists: resume with --resume_from_checkpoint last, or choose another --output_dir")
    if isinstance(resume, str):
        return resume
    trained = next((path for name in _MODELS if (path := Path(args.output_dir, name)).is_file()), None)
    if trained is not None and not found and check != "True":
        raise SystemExit(
            f"{trained} is the model of a finished training: choose another --output_dir, or remove this folder first"
        )
    if not resume:
        return None
    if not found:
        logger.warning("%s contains no complete checkpoint: training starts at step 0", args.output_dir)
    return found


# ------------------------------------------------------------------ training and its results
def train_and_score(trainer: ChartQATrainer, script: ModelArguments, resume: str | None = None) -> dict[str, float]:
    """Train, save and score the model, and write `predictions.jsonl`, `metrics.json`, and pictures of both.

    The final evaluation takes the whole evaluation split, with `final_num_beams` beams. With `baseline`, the model is
    scored in the same way before the training, and `baseline.jsonl` gets its answers. With `push_to_hub`, the model
    is pushed at the end. With `check="True"`, it only prints what would be trained (see `checking`).

    Args:
        trainer: A trainer with data sets to train and to evaluate on.
        script: Arguments of the script, which `metrics.json` and the model card record.
        resume: A checkpoint to resume from.

    Returns:
        The metrics of the final evaluation, as `eval_...`, the same on every process; none if nothing was trained.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import synthetic_chartqa, tiny_unichart
        >>> from chartqa_ft.scripts import ModelArguments
        >>> model, processor = tiny_unichart("test")
        >>> charts = synthetic_chartqa(1, seed=0).select(range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = ChartQATrainingArguments(
        ...         output_dir=folder, max_steps=1, generation_num_beams=1, generation_max_new_tokens=2,
        ...         chart_cache="off", report_to="none", use_cpu=True, disable_tqdm=True,
        ...     )
        ...     trainer = ChartQATrainer(model, args, charts, charts, processor)
        ...     metrics = train_and_score(trainer, ModelArguments())  # doctest: +ELLIPSIS
        step 1: the training took ...
        model, predictions.jsonl, metrics.json: ...; best checkpoint: None
        to look at: ...answers.png
        score: chartqa-ft evaluate --model_name_or_path ...
        report: chartqa-ft report ...
        >>> metrics["eval_n"]
        2
    """
    args = trainer.args
    with one_line_errors():
        check_pictures(script, args)
    trainer.card_facts = {**card_facts(script, trainer.train_dataset), **trainer.card_facts}
    if resume is not None:
        logger.info("the training goes on from %s", resume)
    if not goes_on(trainer, getattr(script, "check", "auto"), resumed=resume is not None):
        return {}
    beams = args.generation_num_beams or 1 if script.final_num_beams is None else script.final_num_beams
    compares = getattr(script, "baseline", False)
    with one_line_errors():
        if compares:
            check_baseline(trainer)
        trainer.check("train").raise_errors()  # train() raises the same ones with a traceback
    with without_trackers(trainer):
        untrained = score_untrained(trainer, beams) if compares else {}
    with kept_open(trainer):
        result = trainer.train(resume_from_checkpoint=resume or False)  # not that of the arguments again
        trainer.save_model(_internal_call=True)
        final = trainer.evaluate(metric_key_prefix="final", num_beams=beams)
    metrics = {key.replace("final_", "eval_", 1): value for key, value in final.items()}
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint
        answers = f"final-step-{trainer.weights_step}.jsonl" if args.write_predictions else None
        name = None if best is None else Path(best).name
        numbers = {**result.metrics, **untrained, **metrics, "best_checkpoint": name, "num_processes": args.world_size}
        table = format_scores(metrics, prefix="eval_")
        write_report(args.output_dir, script, numbers, answers)
        if untrained:
            files = Path(args.output_dir, BASELINE_NAME), Path(args.output_dir, PREDICTIONS_NAME)
            changed, rows = difference(*files, variant=args.metric_variant)
            write_report(args.output_dir, script, numbers | changed, None)
            table += f"\n\nbefore and after the training, in percent:\n{rows}"
        print(table)
        print(f"model, predictions.jsonl, metrics.json: {args.output_dir}; best checkpoint: {best}")
        pictures = write_pictures(script, trainer, trainer.eval_dataset)
        if pictures:
            print(f"to look at: {', '.join(map(str, pictures))}")
        evaluated = getattr(trainer.eval_dataset, "split", None)
        commands = next_commands(script, args.output_dir, args, None if evaluated is None else str(evaluated))
        for purpose, command in commands.items():
            print(f"{purpose}: {command}")
    if args.push_to_hub:
        with one_line_errors():
            commit = trainer.push_to_hub()
        if isinstance(commit, CommitInfo):
            print(f"pushed: {printable(commit.pr_url or commit.commit_url)}")
    return metrics


def card_facts(script: ModelArguments, records: Any = None) -> dict[str, Any]:
    """Return what a script adds to the card of its model: the data set, its splits, and the command that was run.

    Args:
        script: Arguments of the script; without those of a data set, only the command is returned.
        records: The training data. If it came from the Hub, `dataset_revision` is its commit, even if the script was
            given the name of a branch or tag.

    Example:
        >>> from chartqa_ft.scripts import DataArguments
        >>> facts = card_facts(DataArguments(dataset_revision="v1"))
        >>> facts["dataset"], facts["dataset_revision"], facts["eval_split"]
        ('HuggingFaceM4/ChartQA', 'v1', 'val')
    """
    name, revision = (getattr(script, key, None) for key in ("dataset_name", "dataset_revision"))
    from_hub = name is not None and not Path(name).exists()
    data = {
        "dataset": name,
        "other_datasets": other_datasets(vars(script)) or None,
        "dataset_revision": (commit_of(records) if from_hub else None) or revision,
        "train_split": training_data(vars(script)),
        "eval_split": evaluation_data(vars(script)),
        "command": command_line(),
    }
    return {name: value for name, value in data.items() if value is not None}
