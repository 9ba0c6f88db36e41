"""`describe_model`: the card and the `metrics.json` that stand beside the weights of a pushed model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from ..adapters import Adapter, base_model, compat
from ..evaluation.report import METRICS_NAME, write_metrics
from ..evaluation.results import EvaluationResult
from ..hub.card.base_licence import base_licence
from ..hub.card.render import CardFacts, CardSample, write_card
from ..hub.credentials import known_tokens
from ..images.opening import open_image
from ..images.rgb import to_rgb
from ..models.chartqa_config import package_versions
from ..models.origin import origin_of, revision_of
from ..models.peft_state import active_config
from .arguments import ChartQATrainingArguments
from .checks.optimizer_arguments import own_optimizer_name, unread_arguments


def describe_model(
    folder: Path,
    *,
    model: nn.Module,
    adapter: Adapter,
    args: ChartQATrainingArguments,
    result: EvaluationResult | None,
    step: int,
    log_history: Sequence[Mapping[str, Any]],
    name: str,
    kind: str,
    token: str | None,
    include_images: bool,
    report: Path | None = None,
    own_optimizer: Sequence[Any] = (None, None),
    facts: Mapping[str, Any],
) -> None:
    """Write the card with its pictures, and the `metrics.json` of these very weights if they were evaluated.

    Args:
        folder: where to write them; earlier ones are replaced.
        model: the model, for its base model and config.
        adapter: the adapter of the model's family, for the prompt.
        args: the arguments of the training.
        result: the evaluation of the weights; `None` if there was none.
        step: the optimizer step of the weights.
        log_history: the log of the trainer's state, for the curve.
        name: name of the model.
        kind: `"full"`, `"lora"` or `"merged"`; see `CardFacts`.
        token: token to read the base model's card with.
        include_images: whether the charts of the evaluation may be published.
        report: a `metrics.json` to use in place of a new one if it is of the same evaluation.
        own_optimizer: the optimizer of the user, `optimizer_cls_and_kwargs` and the schedule, as far as there are any.
            The card leaves out the arguments that are not read beside them.
        facts: further fields of `CardFacts`, which replace those found here.

    Raises:
        TypeError: `facts` has a name that is not a field of `CardFacts`.
    """
    config = base_model(model).config
    peft_config = active_config(model)
    # The name of the model and not of its config, which is a cache folder of this machine after load_checkpoint.
    base = base_model(model).name_or_path if peft_config is None else peft_config.base_model_name_or_path
    base_revision = revision_of(model) if peft_config is None else peft_config.revision
    origin = origin_of(model)
    found: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "base_model": base or None,
        "base_revision": base_revision,
        "base_is_peft": origin is not None and origin.is_peft,
        "settings": adapter.settings(),
        "model_type": config.model_type,
        "vocabulary_grown": bool(getattr(peft_config, "trainable_token_indices", None)),
        "compat": compat.is_legacy(config),
        "metric_variant": args.metric_variant,
        "step": step,
        "arguments": _used_arguments(args, own_optimizer),
        "secrets": known_tokens(token, arguments=vars(args)),
        "default_arguments": type(args).default_arguments(),
        "num_processes": args.world_size,
        "peft_config": {} if peft_config is None else peft_config.to_dict(),
        "log_history": log_history,
        "versions": package_versions(),
        **base_licence(base, token, revision=base_revision),
    }
    if result is not None:
        found |= {
            "eval_part": result.part,
            "metrics": result.metrics,
            "metric_prefix": result.prefix,
            "decoding": result.decoding,
            "metric_extract": result.extract,
            "metric_interval": result.interval,
            "task_prompts": {name: adapter.task_prompt(name) for name in result.tasks},
            "signatures": result.signatures,
            "samples": [_sample(row, result, include_images) for row in result.rows],
        }
    found |= facts
    unknown = sorted(set(found) - {field.name for field in fields(CardFacts)})
    if unknown:
        raise TypeError(f"a card has no {', '.join(unknown)}: see chartqa_ft.model_card.CardFacts for its fields")
    write_card(folder, CardFacts(**found), include_images=include_images)
    if result is not None:
        write_metrics(folder, result, report=folder / METRICS_NAME if report is None else report)


def _used_arguments(args: ChartQATrainingArguments, own_optimizer: Sequence[Any]) -> dict[str, Any]:
    unread, name = unread_arguments(*own_optimizer), own_optimizer_name(*own_optimizer)
    used = {key: value for key, value in args.to_sanitized_arguments().items() if key not in unread}
    return used if name is None else {**used, "optimizer": f"{name}, from the training script"}


def _sample(row: Mapping[str, Any], result: EvaluationResult, with_image: bool) -> CardSample:
    # Charts are not even opened unless they may be published.
    image = result.chart(row) if with_image else None
    return CardSample(
        question=row["question"],
        answer=row["answer"],
        prediction=row["prediction"],
        correct=row.get("correct"),
        image=None if image is None else to_rgb(open_image(image)),
    )
