"""What training scripts share: arguments from a command line or a YAML file, logging, loading, the final score.

class ScriptArguments(DataArguments, ModelArguments): ...

script, args = parse(sys.argv[1:], ScriptArguments, description=__doc__, defaults={"learning_rate": 1e-4})
set_up_logging(args)
resume = checkpoint_to_resume(args)
with one_line_errors():
    train, evaluation = load_records(script, args)
    model, processor, adapter = load_model(script, args)
trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter)
metrics = train_and_score(trainer, script, resume)
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from ..adapters import Adapter, adapter_for
from ..data.hub_datasets import commit_of
from ..data.load import load_chartqa
from ..data.splitting import stratified_subset
from ..evaluation.report import write_report
from ..metrics.table import format_table
from ..models.load import load_checkpoint
from ..training.arguments import ChartQATrainingArguments
from ..training.running_loss import last_checkpoint
from ..training.trainer import ChartQATrainer
from .arguments import DataArguments, ModelArguments
from .command import command_line
from .parsing import one_line, parse_mapping

logger = logging.getLogger(__name__)

__all__ = [
    "checkpoint_to_resume",
    "load_model",
    "load_records",
    "naming",
    "one_line_errors",
    "run_script",
    "set_up_logging",
    "train_and_score",
    "trainable_share",
]


# ------------------------------------------------------------------ before training
def set_up_logging(args: ChartQATrainingArguments) -> None:
    """Lines of this library at level INFO on the main process (DEBUG everywhere with `--log_level debug`)."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    level = logging.INFO if args.should_log else logging.WARNING
    logging.getLogger("chartqa_ft").setLevel(logging.DEBUG if args.log_level == "debug" else level)
    disable_progress_bar()  # of loading and saving, not of training
    # peft 0.21 asks transformers 5.23 by the old name, which no user can change.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


@contextmanager
def one_line_errors(*more: type[Exception]) -> Iterator[None]:
    """Ends the script with `error: ...` in one line, without a traceback, for what its user can mend.

    These are files that are missing or damaged, a Hub that cannot be reached, arguments that do not fit each other or
    the model, packages that are not installed; and `more`.
    """
    try:
        yield
    except (OSError, ValueError, ImportError, *more) as error:
        logger.debug("where it happened:", exc_info=True)
        raise SystemExit(f"error: {one_line(error)}") from error


@contextmanager
def naming(what: str | Path) -> Iterator[None]:
    """Lets errors of files and of the Hub say what was being loaded, where their own message does not."""
    try:
        yield
    except (OSError, json.JSONDecodeError, HFValidationError) as error:
        if str(what) in str(error):
            raise
        raise OSError(f"{what} cannot be loaded: {error}") from error


def checkpoint_to_resume(args: ChartQATrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` means (`last`: the newest whole one), `None`: from step 0.

    Raises:
        SystemExit: there are checkpoints in `output_dir`, and resuming was not asked for.
    """
    found = last_checkpoint(args.output_dir)
    resume = args.resume_from_checkpoint
    if found and not resume:
        raise SystemExit(f"{found} exists: go on with --resume_from_checkpoint last, or take another --output_dir")
    if resume not in ("last", "true", "True"):
        return resume
    if not found:
        logger.warning("%s holds no complete checkpoint: starting from the beginning", args.output_dir)
    return found


def load_records(script: DataArguments, args: ChartQATrainingArguments) -> tuple[Dataset, Dataset]:
    """The records to train on and those to evaluate on."""

    def load(split: str, limit: int | None) -> Dataset:
        records = load_chartqa(
            script.dataset_name,
            split=split,
            image_dir=script.image_dir,
            column_map=parse_mapping(script.column_map),
            revision=script.dataset_revision,
            on_error=script.on_error,
        )
        return stratified_subset(records, limit, seed=args.seed) if limit else records

    with args.main_process_first(desc="loading data"):
        return load(script.train_split, script.max_train_samples), load(script.eval_split, script.max_eval_samples)


def load_model(
    script: ModelArguments,
    args: ChartQATrainingArguments,
    *,
    frozen: bool = False,
    **model_arguments: Any,
) -> tuple[nn.Module, Any, Adapter]:
    """Model, processor and adapter, as `load_checkpoint` gives them, ready to be trained.

    Random numbers begin at `args.seed` here: weights that are new, those of a LoRA adapter too, depend on it alone.

    Args:
        script: which model, and what a chart may cost.
        args: their precision is that of frozen weights.
        frozen: whether only an adapter on top will be trained: the model's weights then take the precision that they
            are computed in. Weights that are trained themselves are float32, whatever the checkpoint stores: in 16
            bits, most updates would be rounded away. A PEFT adapter in the checkpoint is then merged.
        model_arguments: go to `from_pretrained`, such as those of `quantized_loading`.
    """
    set_seed(args.seed)
    computed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(args.precision, torch.float32)
    costs = {name: getattr(script, name) for name in ("image_size", "max_pixels", "max_tiles", "max_patches")}
    with naming(script.model_name_or_path):
        model, processor, _ = load_checkpoint(
            script.model_name_or_path,
            revision=script.model_revision,
            merge=not frozen,
            trainable=frozen,
            prompt=script.prompt,
            image_cost={name: value for name, value in costs.items() if value is not None},
            compat=None if script.compat else False,
            **{"dtype": computed if frozen else torch.float32, **model_arguments},
        )
    if args.activation_checkpointing and not model.supports_gradient_checkpointing:
        logger.info("%s cannot recompute activations: activation_checkpointing is off", type(model).__name__)
        args.activation_checkpointing = args.gradient_checkpointing = False
    lengths = {} if script.max_length is None else {"max_length": script.max_length}
    return model, processor, adapter_for(model, processor, on_long_answer=script.on_long_answer, **lengths)


def trainable_share(model: nn.Module) -> str:
    """How many of a model's parameters are trained, in words. Quantized ones count as what they stand for."""
    if hasattr(model, "get_nb_trainable_parameters"):
        trained, total = model.get_nb_trainable_parameters()
    else:
        sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
        trained, total = sum(size for size, moves in sizes if moves), sum(size for size, _ in sizes)
    return f"{trained:,} of {total:,} parameters are trained ({100 * trained / total:.3g} %)"


# ------------------------------------------------------------------ training and what it leaves
def train_and_score(trainer: ChartQATrainer, script: ModelArguments, resume: str | None = None) -> dict[str, float]:
    """Train, save the model, score it on the whole evaluation split, write `predictions.jsonl` and `metrics.json`.

    Returns:
        The metrics of the last evaluation, as `eval_...`, the same on every process.
    """
    args = trainer.args
    trainer.card_facts = {**card_facts(script, trainer.train_dataset), **trainer.card_facts}
    logger.info(
        "%d questions to train on, %d to evaluate; from %s",
        len(trainer.train_dataset),
        len(trainer.eval_dataset),
        resume or "step 0",
    )
    result = trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(_internal_call=True)
    beams = script.final_num_beams or args.generation_num_beams or 1
    final = trainer.evaluate(metric_key_prefix="final", num_beams=beams)
    metrics = {key.replace("final_", "eval_", 1): value for key, value in final.items()}
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint
        answers = f"final-step-{trainer.state.global_step}.jsonl" if args.write_predictions else None
        name = None if best is None else Path(best).name
        numbers = {**result.metrics, **metrics, "best_checkpoint": name, "num_processes": args.world_size}
        write_report(args.output_dir, script, numbers, answers)
        print(format_table(metrics, prefix="eval_"))
        print(f"model, predictions.jsonl, metrics.json: {args.output_dir}; best checkpoint: {best}")
    if args.push_to_hub:
        with one_line_errors():
            commit = trainer.push_to_hub()
        if commit is not None:
            print(f"pushed: {commit.pr_url or commit.commit_url}")
    return metrics


def run_script(main: Callable[[], Any]) -> None:
    """Run the `main` of a script and leave its process group: threads of it that are alive at exit abort a rank."""
    main()
    PartialState().destroy_process_group()


def card_facts(script: ModelArguments, records: Any = None) -> dict[str, Any]:
    """What the arguments of a script add to the card of its model: the data, and the command that was run.

    Args:
        records: the training data: if it came from the Hub, its commit is told, whatever the revision was called.
    """
    name, revision = (getattr(script, key, None) for key in ("dataset_name", "dataset_revision"))
    from_hub = name is not None and not Path(name).exists()
    data = {
        "dataset": name,
        "dataset_revision": (commit_of(records) if from_hub else None) or revision,
        "train_split": getattr(script, "train_split", None),
        "eval_split": getattr(script, "eval_split", None),
        "command": command_line(),
    }
    return {name: value for name, value in data.items() if value is not None}
