"""Checks of the methods that a subclass of `ChartQATrainer` overrides, and of the functions that it is given."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any

from transformers import EvalPrediction

from .check import CheckContext, Finding, register_check

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

COMPUTE_METRICS = (
    "compute_metrics gets the answers and references as lists of str (eval_prediction.predictions and .label_ids, "
    "without questions that have no answer), not as arrays of ids or logits"
)
COMPUTE_METRICS_LINE = "write answers, references = eval_prediction, and compare the texts without decoding them"


def own_code(function: Any) -> CodeType | None:
    """Return the code of a Python function, behind bound methods and decorators; `None` if there is none."""
    function = getattr(function, "__func__", function)
    function = getattr(function, "__wrapped__", function)
    if not hasattr(function, "__code__"):  # an object with __call__
        function = getattr(type(function).__call__, "__func__", type(function).__call__)
    return getattr(function, "__code__", None)


def names_in(code: CodeType | None) -> set[str]:
    """Return the names of functions, methods and attributes that a piece of code uses, inner functions included.

    Example:
        >>> names_in((lambda model: model.generate()).__code__)
        {'generate'}
    """
    if code is None:
        return set()
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def constants_in(code: CodeType | None) -> set[Any]:
    """Return the numbers and strings in a piece of code, inner functions included."""
    if code is None:
        return set()
    found: set[Any] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= constants_in(constant)
        elif isinstance(constant, (int, float, str)):
            found.add(constant)
    return found


def uses_argument(function: Any, name: str) -> bool:
    """Return whether a function reads one of its arguments by name, or by passing all of them on.

    Example:
        >>> def loss(model, inputs, num_items_in_batch=None):
        ...     return model(**inputs).loss
        >>> uses_argument(loss, "num_items_in_batch"), uses_argument(loss, "model")
        (False, True)
    """
    code = own_code(function)
    if code is None:
        return True
    count = code.co_argcount + code.co_kwonlyargcount
    named, rest = code.co_varnames[:count], code.co_varnames[count:]
    packed = rest[: bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)]
    passing = {name} & set(named) or set(packed)
    read: set[str] = set(code.co_cellvars)
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD"):
            read |= set(step.argval) if isinstance(step.argval, tuple) else {step.argval}
    return bool(passing & read)


def overridden(trainer: Any, name: str) -> Any:
    """Return the method of a subclass or of the instance that replaces one of the trainer's own, or `None`."""
    if name in vars(trainer):
        return vars(trainer)[name]
    # Found by its module, which imports this one.
    own = next(kind for kind in type(trainer).__mro__ if kind.__module__ == f"{__package__}.trainer")
    method = getattr(type(trainer), name, None)
    return None if method is getattr(own, name, None) else method


def replaces_loss(trainer: Any) -> bool:
    """Return whether a subclass computes the loss without the trainer's own `compute_loss`."""
    method = overridden(trainer, "compute_loss")
    return method is not None and "compute_loss" not in names_in(own_code(method))


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


def refused_metrics(compute_metrics: Any) -> Iterator[str]:
    """Yield why a `compute_metrics` is refused: it is written for ids, as it is usual with `Seq2SeqTrainer`.

    Example:
        >>> def accuracy(prediction):
        ...     labels = [[label for label in row if label != -100] for row in prediction.label_ids]
        ...     return {"rows": len(labels)}
        >>> next(refused_metrics(accuracy))[:70]
        'compute_metrics gets the answers and references as lists of str (eval_'
    """
    if compute_metrics is None:
        return
    if not callable(compute_metrics):
        yield f"compute_metrics must be a function, got {type(compute_metrics).__name__}"
        return
    code = own_code(compute_metrics)
    if names_in(code) & {"batch_decode", "argmax"} or -100 in constants_in(code):
        yield f"{COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"


def explained(compute_metrics: Callable | None) -> Callable | None:
    """Return a `compute_metrics` whose errors say what it gets."""
    if compute_metrics is None:
        return None

    def call(prediction: EvalPrediction) -> dict[str, Any]:
        try:
            metrics = compute_metrics(prediction)
        except Exception as error:
            raise ValueError(
                f"compute_metrics failed ({type(error).__name__}: {error}). {COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"
            ) from error
        if not isinstance(metrics, dict):
            raise ValueError(f"compute_metrics must return a dict of numbers, got {type(metrics).__name__}")
        return metrics

    return call


@register_check()
def check_replaced_parts(context: CheckContext) -> Iterator[Finding]:
    """Find parts of a trainer that were replaced after it was created, which has no effect."""
    trainer = context.trainer
    if trainer.data_collator is not trainer.own_parts["data_collator"]:
        yield Finding(
            "data_collator",
            "error",
            "trainer.data_collator was replaced, and would not be used",
            "override get_train_dataloader, or change the arguments random_padding, group_by_chart and pack_questions",
        )
    if trainer.args is not trainer.own_parts["args"]:
        yield Finding(
            "args",
            "error",
            "trainer.args was replaced, and only a part of the trainer would read the new arguments",
            "create a new trainer, or change single fields of trainer.args",
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
