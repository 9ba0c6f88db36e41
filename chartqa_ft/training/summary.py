"""What a training will do, told once before its first step: data, steps, trained weights, charts, results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..adapters.image_cost import cost_arguments
from ..batching.records import as_records, hinted_chart_ids, is_stream
from ..models.lora_share import adapted_share
from .parts import parts_line
from .preflight.facts import describe_run
from .progress import chart_cost

__all__ = ["summary", "trainable_share"]


def summary(trainer: Any, *, checked: bool = False) -> list[str]:
    """Return what the training of a `ChartQATrainer` will do, as lines.

    Args:
        trainer: the trainer, with data to train on.
        checked: whether the result of `trainer.check()` has been shown, which tells the first of these lines too, and
            the tokens of a chart.
    """
    args = trainer.args
    each = questions_per_chart(trainer.train_dataset)
    lines = []
    if not checked:
        limits = () if trainer.model is None else cost_arguments(trainer.model, trainer.processing_class)
        lines = [describe_run(trainer), chart_cost(trainer.adapter, trainer.train_dataset, limits)]
    facts = [] if each is None else [f"{each:.3g} questions per chart"]
    if trainer.model is not None:  # between two trials of a search there is none
        share = trainable_share(trainer.model)
        if hasattr(trainer.model, "peft_config"):
            adapted = adapted_share(trainer.model)
            share += f", which adapt {100 * adapted:.0f} % of the weights of the language model's blocks"
        facts.append(share)
    own = trainer.optimizer_cls_and_kwargs
    if trainer.optimizer is not None:
        own = (type(trainer.optimizer), {})  # with rates of its own
    parts = None if trainer.model is None else parts_line(trainer.model, args, own)
    return [*lines, *(["; ".join(facts)] if facts else []), *([parts] if parts else []), _results(args)]


def questions_per_chart(records: Any) -> float | None:
    """Return the mean number of questions on a chart; `None` if the charts are not known without reading them."""
    if is_stream(records):
        return None
    charts = hinted_chart_ids(as_records(records))
    return None if charts is None or len(records) == 0 else len(records) / len(set(charts))


def trainable_share(model: nn.Module) -> str:
    """Return how many of a model's parameters are trained, as text. Quantized parameters count as their originals.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> _ = model.bias.requires_grad_(False)
        >>> trainable_share(model)
        '3 of 4 parameters are trained (75 %)'
    """
    if hasattr(model, "get_nb_trainable_parameters"):
        trained, total = model.get_nb_trainable_parameters()
    else:
        sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
        trained, total = sum(size for size, moves in sizes if moves), sum(size for size, _ in sizes)
    return f"{trained:,} of {total:,} parameters are trained ({100 * trained / total:.3g} %)"


def _results(args: Any) -> str:
    """Return where the results of a training go."""
    kinds = [] if str(getattr(args.save_strategy, "value", args.save_strategy)) == "no" else ["checkpoints"]
    evaluates = str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"
    kinds += ["answers in predictions/"] * (evaluates and args.write_predictions)
    text = f"results go to {Path(args.output_dir)}" + (f" ({', '.join(kinds)})" if kinds else "")
    trackers = [str(name) for name in args.report_to]
    return text + (f"; metrics also go to {', '.join(trackers)}" if trackers else "")
