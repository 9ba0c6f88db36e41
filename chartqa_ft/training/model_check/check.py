"""`check_model`: run all lines on one model, in place, and leave it as it was."""

from __future__ import annotations

import copy
import gc
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from transformers.utils import logging as transformers_logging

from ...adapters import Adapter, adapter_for, base_model
from ...adapters.argument_checks import check_count, check_processor
from ...adapters.argument_checks import check_model as check_loaded
from ...adapters.registry import check_adapter
from ...adapters.wrappers import without_autocast
from ...models.chartqa_config import package_versions
from ...models.lora import add_peft, default_lora_config
from ...printable import printable_errors
from ...resources import is_out_of_memory
from .answers import check_batched_answers
from .cost import check_cost
from .examples import chosen_examples, drawn_examples
from .gradients import check_gradients_of_splits
from .logits import check_training_logits
from .peft_weights import check_peft_gradients, fill_zero_weights, zero_weights
from .prompt_tokens import check_prompt_tokens
from .reading import check_training_batch
from .report import TITLES, CheckLine, CheckReport
from .rounding import rounding_of
from .saving import check_saving
from .sharing import check_shared_charts
from .subject import Subject
from .untouched import kept_weights, untouched, without_dropout

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["check_model"]

logger = logging.getLogger(__name__)

_CHECKS: dict[str, Callable[[Subject], CheckLine]] = {
    "training_batch": check_training_batch,
    "prompt_tokens": check_prompt_tokens,
    "training_logits": check_training_logits,
    "batched_answers": check_batched_answers,
    "gradients": check_gradients_of_splits,
    "shared_charts": check_shared_charts,
    "peft_gradients": check_peft_gradients,
    "saving": check_saving,
    "cost": check_cost,
}
_DEFAULT_LORA = " (default_lora_config, added for this check)"


@printable_errors()
def check_model(
    model: nn.Module,
    processor: Any,
    records: Any = None,
    *,
    adapter: Adapter | None = None,
    prompt: str | None = None,
    peft_config: PeftConfig | None = None,
    max_new_tokens: int = 8,
    num_beams: int = 3,
    lines: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Measure on a model, in its own dtype and on its own device, whether what this library promises holds for it.

    Nine lines are measured on a few questions; each one passes, fails or does not apply:

    1. `training_batch`: a batch reads back as prompt, question, answer and the end token of the family; the loss
       counts the answer and its end alone.
    2. `prompt_tokens`: prompts and charts are the tensors of the family's own processor.
    3. `training_logits`: training computes the logits that generation chooses from.
    4. `batched_answers`: questions of unequal length are answered together as alone, greedily and with beams. Answers
       of a model in 16 bits may differ where two tokens are equally likely up to rounding.
    5. `gradients`: a step has the same gradient in one batch of 4 rows, two of 2 and four of 1.
    6. `shared_charts`: questions that share a chart, or one packed sequence, are computed as if each were alone.
    7. `peft_gradients`: every adapted layer gets a gradient, and all that is trained is saved.
    8. `saving`: a saved and loaded model, and one with merged PEFT weights, gives the same answers.
    9. `cost`: seconds and memory of a step, image tokens of a chart, the largest batch that fits.

    Bounds follow from the dtype and the number of blocks (`model_check.rounding`) and are part of the table. Gradients
    are those of the weights that are trainable: of the PEFT weights if the model has any or `peft_config` is given,
    else of all. A model without PEFT weights gets those of `default_lora_config` for lines 7 and 8. Dropout is off
    during the check. Afterwards the model is as before: weights, gradients, modes, hooks, configs and random states.

    The check of a decoder-only model takes 49 forward passes of up to five questions, 18 of them with a backward pass,
    and 145 steps of generation. For 3 billion parameters and 1,000 tokens a question that is 1.4e15 floating point
    operations; without PEFT weights, the model is also written to disk and read once. By these counts it takes less
    than 2 minutes on one GPU. That has not been measured.

    Args:
        model: A loaded model, with PEFT weights or without.
        processor: Its processor.
        records: Records with `image`, `question` and `answer`, of which up to five are used: a `datasets.Dataset`, a
            list or a stream. `None` uses drawn charts.
        adapter: The adapter of the model, in place of `adapter_for(model, processor, prompt=prompt)`.
        prompt: Template of the prompt with the field `{question}`; `None` uses the prompt of the model.
        peft_config: The PEFT configuration that you are going to train with.
        max_new_tokens: Longest answer that is generated, in tokens.
        num_beams: Number of beams that are compared besides greedy decoding, at least 2.
        lines: Names of the lines to measure; `None` measures all.
        progress: Called with the title of each line before it is measured, such as `print`.

    Returns:
        The report. Print it for a table; `report.ok` and `report.exit_code` say whether a line failed.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A name in `lines` is unknown, no record has an answer, there is no adapter for the model, or
            several processes were started.

    Example:
        >>> from chartqa_ft import check_model, tiny_unichart
        >>> report = check_model(*tiny_unichart("test", image_size=64, window_size=4), lines=["training_batch"])
        >>> report.ok, report["training_batch"].number
        (True, 0)
    """
    check_loaded(model)
    names = _checked_lines(lines)
    max_new_tokens = check_count("max_new_tokens", max_new_tokens)
    num_beams = check_count("num_beams", num_beams, least=2)
    _refuse_several_processes()
    if adapter is None:
        check_processor(processor)
        adapter = adapter_for(model, processor, prompt=prompt)
    check_adapter(adapter, model)
    if peft_config is not None and hasattr(model, "peft_config"):
        raise ValueError("the model has PEFT weights already: leave peft_config out to check those")
    examples = drawn_examples() if records is None else chosen_examples(records)
    model = model if hasattr(model, "peft_config") else base_model(model)
    origin = "weights of the model" if hasattr(model, "peft_config") else None
    if peft_config is not None:
        origin = "peft_config"
    elif origin is None and (getattr(model, "is_quantized", False) or _is_frozen(model)):
        peft_config, origin = default_lora_config(model), "default_lora_config"  # nothing else can be trained
    began = time.perf_counter()
    with untouched(model), without_autocast(model), _quiet():
        checked: Any = model
        if peft_config is not None:
            checked = add_peft(model, copy.deepcopy(peft_config))
        subject = Subject(checked, adapter, examples, rounding_of(model), max_new_tokens, num_beams)
        with kept_weights(zero_weights(checked)):
            _prepare(subject)
            found = [_measured(name, subject, progress) for name in names]
    facts = {
        **_facts(model, subject, records is None),
        "peft_weights": origin,
        "seconds": time.perf_counter() - began,
    }
    return CheckReport(found, facts)


def _is_frozen(model: nn.Module) -> bool:
    return not any(weight.requires_grad for weight in model.parameters())


def _checked_lines(lines: Sequence[str] | None) -> list[str]:
    if lines is None:
        return list(_CHECKS)
    if isinstance(lines, str) or not isinstance(lines, Sequence):
        raise TypeError(f"lines must be a list of names, got {lines!r}")
    unknown = [name for name in lines if name not in _CHECKS]
    if unknown:
        raise ValueError(f"unknown lines {unknown}: choose from {', '.join(_CHECKS)}")
    return [name for name in _CHECKS if name in lines]


def _refuse_several_processes() -> None:
    started = int(os.environ.get("WORLD_SIZE") or 1)
    if started > 1 or (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        raise ValueError("check_model checks a model in one process: start it with --num_processes 1, or python alone")


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out warnings and progress bars: a training gives them, and several trainers are created here."""
    package = logging.getLogger("chartqa_ft")
    level, has_bars = package.level, transformers_logging.is_progress_bar_enabled()
    package.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        package.setLevel(level)
        if has_bars:
            transformers_logging.enable_progress_bar()


def _prepare(subject: Subject) -> None:
    """Turn off dropout, let PEFT weights have an effect, and attach the adapter."""
    model = subject.model
    if subject.is_peft:
        fill_zero_weights(model)
        if not any(weight.requires_grad for weight in model.parameters()):  # loaded to answer only
            model.set_adapter(model.active_adapter)
    without_dropout(model)
    subject.adapter.attach(model)


def _measured(name: str, subject: Subject, progress: Callable[[str], None] | None) -> CheckLine:
    """Return a line; an error that it raises is a failure, and exhausted memory means that it was not measured."""
    if progress is not None:
        progress(TITLES[name])
    try:
        with untouched(subject.model):
            if name in ("peft_gradients", "saving") and not subject.is_peft:
                return _with_default_lora(name, subject)
            return _CHECKS[name](subject)
    except Exception as error:
        if is_out_of_memory(error):
            words = (
                "memory ran out: use a smaller model or dtype, or pass peft_config= so that fewer weights are trained"
            )
            return CheckLine(name, "fail" if name == "cost" else "not applicable", words=words)
        logger.debug("%s raised an error", name, exc_info=True)
        return CheckLine(name, "fail", words=f"{type(error).__name__}: {error}")
    finally:
        if subject.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _with_default_lora(name: str, subject: Subject) -> CheckLine:
    """Measure a line of PEFT weights on a model that has none."""
    full = check_saving(subject) if name == "saving" else None
    try:
        config = default_lora_config(subject.model)
    except ValueError as error:
        return full or CheckLine(name, "not applicable", words=f"no default LoRA weights for this model: {error}")
    with untouched(subject.model):
        tuned = replace(subject, model=add_peft(subject.model, config), _alone=None)
        _prepare(tuned)
        if full is None:
            return check_peft_gradients(tuned, note=_DEFAULT_LORA)
        lora = check_saving(tuned, note=_DEFAULT_LORA)
    return _joined(full, lora)


def _joined(full: CheckLine, lora: CheckLine) -> CheckLine:
    """Return one line about saving the full model and about saving LoRA weights."""
    lines = (full, lora)
    fails = any(line.status == "fail" for line in lines)
    numbers = [line.number for line in lines if line.number is not None]
    return CheckLine(
        full.name,
        "fail" if fails else "pass",
        max(numbers, default=None),
        lora.bound,
        f"all weights: {full.words}\nLoRA weights: {lora.words}",
        {"full": dict(full.details), "lora": dict(lora.details)},
    )


def _facts(model: nn.Module, subject: Subject, drawn: bool) -> dict[str, Any]:
    base = base_model(model)
    return {
        "model": type(base).__name__,
        "parameters": sum(weight.numel() for weight in base.parameters()),
        "dtype": str(subject.rounding.dtype).removeprefix("torch."),
        "device": _device_name(subject.device),
        "records": f"{len(subject.examples)} questions {'on drawn charts' if drawn else 'of the given records'}",
        "bounds": str(subject.rounding),
        **package_versions(),
        "chartqa_ft": sys.modules[__name__.partition(".")[0]].__version__,
    }


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
