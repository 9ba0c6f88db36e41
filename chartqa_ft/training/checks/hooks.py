"""Methods that a subclass of `ChartQATrainer` overrides, and parts that are replaced after it was created."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...adapters import base_model
from .findings import CheckContext, Finding, register_check
from .function_code import names_in, own_code
from .metric_function import refused_metrics

IGNORED_HOOKS = {
    "_get_train_sampler": "get_train_dataloader",
    "_get_eval_sampler": "get_eval_dataloader",
    "_get_dataloader": "get_train_dataloader or get_eval_dataloader",
    "_remove_unused_columns": "get_train_dataloader or get_eval_dataloader",
    "_get_collator_with_removed_columns": "get_train_dataloader or get_eval_dataloader",
    "_set_signature_columns_if_needed": "get_train_dataloader or get_eval_dataloader",
    "_pad_tensors_to_max_len": "prediction_step, calling super().prediction_step(...)",
}
"""Method of `Seq2SeqTrainer` that `ChartQATrainer` does not call -> what to override in its place."""

DELEGATING_HOOKS = ("prediction_step", "evaluation_loop", "get_eval_dataloader", "get_test_dataloader")
"""Methods whose overrides must call the trainer's own: it numbers, collects and scores the rows."""

CONSTRUCTED_HOOKS = ("compute_loss", "prediction_step")
"""Methods that decide about the collators, which are made when the trainer is created."""

CONSTRUCTED_PARTS = ("adapter", "processing_class")
"""Parts that the collators, the evaluator and others have got, which are made when the trainer is created."""


def overridden(trainer: Any, name: str) -> Any:
    """Return the method of a subclass or of the instance that replaces one of the trainer's own, or `None`."""
    if name in vars(trainer):
        return vars(trainer)[name]
    # Found by its module, which imports this one.
    own = next(
        kind for kind in type(trainer).__mro__ if kind.__module__ == f"{__package__.rpartition('.')[0]}.trainer"
    )
    method = getattr(type(trainer), name, None)
    return None if method is getattr(own, name, None) else method


def replaces_loss(trainer: Any) -> bool:
    """Return whether a subclass computes the loss without the trainer's own `compute_loss`."""
    method = overridden(trainer, "compute_loss")
    return method is not None and "compute_loss" not in names_in(own_code(method))


def changes_loss(trainer: Any) -> bool:
    """Return whether a subclass may train with another loss than the trainer's own, or with more than that.

    A `training_step` that calls the trainer's own does not count.
    """
    step = overridden(trainer, "training_step")
    own_step = step is not None and "training_step" not in names_in(own_code(step))
    return own_step or overridden(trainer, "compute_loss") is not None


def replaces_step(trainer: Any) -> bool:
    """Return whether a subclass has a `prediction_step`, which may pass the batch to the model as it is."""
    return overridden(trainer, "prediction_step") is not None


def ignored_hooks(trainer: Any) -> Iterator[str]:
    """Yield why overridden methods of a trainer are refused, one message each; see `check_trainer`."""
    for name, instead in IGNORED_HOOKS.items():
        if overridden(trainer, name) is not None:
            yield f"ChartQATrainer does not call {name}: override {instead}"
    for name in DELEGATING_HOOKS:
        method = overridden(trainer, name)
        code = own_code(method)
        if method is not None and code is not None and name not in names_in(code):
            yield (
                f"an own {name} must call super().{name}(...), which numbers, collects and scores the rows: change "
                "its inputs or its result, or override evaluate"
            )


@register_check()
def check_replaced_parts(context: CheckContext) -> Iterator[Finding]:
    """Find parts and arguments of a trainer that were changed after it was created, which has no effect."""
    trainer = context.trainer
    if trainer.data_collator is not trainer.own_parts["data_collator"]:
        yield Finding(
            "data_collator",
            "error",
            "trainer.data_collator was replaced, and would not be used",
            "override get_train_dataloader, or set random_padding, group_by_chart or pack_questions of trainer.args",
        )
    if trainer.args is not trainer.own_parts["args"]:
        yield Finding(
            "args",
            "error",
            "trainer.args was replaced, and only a part of the trainer would read the new arguments",
            "create a new trainer, or change single fields of trainer.args (those that it cannot use are refused)",
        )
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled  # they wrap the model in modules of their own
    if trainer.model_init is None and not sharded and base_model(trainer.model) is not trainer.own_parts["model"]:
        yield Finding(
            "model",
            "error",
            "trainer.model was replaced, and only a part of the trainer would use the new one",
            "create a new trainer with model=...",
        )
    for name in CONSTRUCTED_PARTS:
        if getattr(trainer, name) is not trainer.own_parts[name]:
            yield Finding(
                name,
                "error",
                f"trainer.{name} was replaced, and only a part of the trainer would use the new one",
                f"create a new trainer with {name}=...",
            )
    for name in ("compute_loss_func", "preprocess_logits_for_metrics"):
        if getattr(trainer, name, None) is not None:
            yield Finding(name, "error", f"trainer.{name} would not be used", "override compute_loss")
    for name in CONSTRUCTED_HOOKS:
        if vars(trainer).get(name) is not trainer.own_parts[name]:
            yield Finding(
                name, "error", f"trainer.{name} was replaced after its batches were decided", "override it in a class"
            )
    for message in ignored_hooks(trainer):
        yield Finding("hooks", "error", message)
    for message in refused_metrics(trainer.compute_metrics):
        yield Finding("compute_metrics", "error", message)


@register_check("train")
def check_own_optimizer(context: CheckContext) -> Iterator[Finding]:
    """Find learning rates of parts beside a subclass's `create_optimizer`, which does not set them."""
    trainer = context.trainer
    method = overridden(trainer, "create_optimizer")
    code = own_code(method)
    if trainer.args.learning_rates and code is not None and "create_optimizer" not in names_in(code):
        yield Finding(
            "learning_rates",
            "error",
            "learning_rates would not be used by an own create_optimizer",
            "call super().create_optimizer() in it, or leave learning_rates out",
        )


@register_check("train")
def check_own_loss(context: CheckContext) -> Iterator[Finding]:
    """Say what becomes of a subclass's `compute_loss`."""
    trainer = context.trainer
    if overridden(trainer, "compute_loss") is None:
        return
    name = (trainer.args.metric_for_best_model or "").removeprefix("eval_")
    best = trainer.args.eval_strategy != "no" and name.endswith("loss")
    yield Finding(
        "compute_loss",
        "warning" if best else "info",
        "training uses the compute_loss of the subclass; eval_loss stays the cross-entropy of the answer tokens"
        + (f", and so metric_for_best_model={name!r} does not follow the own loss" if best else ""),
        "choose another metric_for_best_model" if best else "",
    )
