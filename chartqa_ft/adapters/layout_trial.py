"""Try how a model takes chart and question before an error message proposes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import nn

from ..resources import is_out_of_memory
from .casting import cast_charts
from .wrappers import base_model, without_autocast

_QUESTIONS = ("How tall is the red bar?", "Which of all the bars of this chart is the tallest one, and why?", "7?")
_NEW_TOKENS = 6
_MARGIN = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Difference of two logits, as a share of their standard deviation, that rounding may make; 0.1 in 16 bits."""


def trial_charts() -> list[Image.Image]:
    """Return three drawn charts of different sizes.

    Example:
        >>> [chart.size for chart in trial_charts()]
        [(96, 64), (64, 96), (96, 64)]
    """
    charts = []
    for size, color, top in (((96, 64), "red", 10), ((64, 96), "blue", 40), ((96, 64), "green", 30)):
        chart = Image.new("RGB", size, "white")
        ImageDraw.Draw(chart).rectangle([12, top, 40, size[1] - 1], color)
        charts.append(chart)
    return charts


def proposal(raw: type, model: nn.Module, processor: Any) -> str:
    """Return the lines of an adapter that were tried and work for a model without a usable chat template, or what was
    tried in vain.

    Args:
        raw: The adapter class of families with a `raw_layout`.
        model: The model.
        processor: Its processor.
    """
    failed = ""
    for pads in (True, False):
        trial = type("Trial", (raw,), {"raw_layout": "{image}{prompt}", "pads_prompts": pads})
        failed = what_fails(lambda trial=trial: trial(model, processor), model) or ""
        if not failed:
            lines = [
                "Set processor.chat_template, or define an adapter (see chartqa_ft.adapters.Causal):",
                f"@register_adapter({base_model(model).config.model_type!r})",
                "class MyFamily(Causal):",
                '    raw_layout = "{image}{prompt}"',
            ]
            return "\n".join([*lines, *([] if pads else ["    pads_prompts = False"])])
    return (
        "Set processor.chat_template, or define an adapter: a subclass of chartqa_ft.adapters.Causal whose "
        "prompt_batch calls the processor as its documentation says. The placeholder of the chart followed by the "
        f"question was tried and does not work ({failed})"
    )


@torch.no_grad()
def what_fails(make: Callable[[], Any], model: nn.Module) -> str | None:
    """Return why an adapter does not work for a model, or `None` if it keeps what this library promises of it.

    Three records with prompts of different lengths are encoded and answered together. The logits of each row alone
    must then prefer every token that was generated, and depend on the chart.

    Args:
        make: Creates the adapter; it may raise anything.
        model: The model. It is in evaluation mode meanwhile.

    Example:
        >>> what_fails(lambda: 1 / 0, torch.nn.Linear(2, 2))
        'ZeroDivisionError: division by zero'
    """
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with without_autocast(model):
            return _what_fails(make(), base_model(model))
    except Exception as error:  # processors and models raise anything for inputs that are not theirs
        if is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:200]}"
    finally:
        for part in training:
            part.training = True


def _what_fails(adapter: Any, model: nn.Module) -> str | None:
    charts = trial_charts()
    examples = [{"image": chart, "question": text} for chart, text in zip(charts, _QUESTIONS, strict=True)]

    def moved(batch: Any) -> dict[str, Any]:
        return {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in batch.items()}

    def logits_of(example: dict[str, Any]) -> torch.Tensor:
        batch = moved(adapter.encode([example]))
        logits = model(**cast_charts(adapter.model_inputs(batch), model)).logits
        if logits.shape[:2] != batch["labels"].shape:
            raise ValueError(
                f"the model returns logits of shape {tuple(logits.shape)} for {batch['labels'].shape[1]} tokens, so "
                "it is not known which of them predict the answer"
            )
        return logits[adapter.label_mask(batch["labels"])]

    batch = moved(adapter.encode(examples, with_answers=False))
    ends = sorted(adapter.eos_token_ids)
    answers = adapter.generate(model, batch, max_new_tokens=_NEW_TOKENS, suppress_tokens=ends).tolist()
    adapter.end = lambda example, ids, eos=None: ids
    for number, (example, ids) in enumerate(zip(examples, answers, strict=True)):
        adapter.answer_rows = lambda rows, ids=ids: [ids for _ in rows]
        logits = logits_of({**example, "answer": "7"})
        other = logits_of({**example, "image": charts[number - 2], "answer": "7"})
        if torch.equal(logits, other):
            return "the chart makes no difference to the answer"
        model.train()
        in_training = [logits_of({**example, "answer": "7"}) for _ in range(2)]
        model.eval()
        margin = _MARGIN.get(model.dtype, 0.1) * logits.std()
        # With dropout they differ from each other, and nothing follows.
        if torch.equal(*in_training) and (in_training[0] - logits).abs().max() > margin:
            return "the model computes other logits in training than in generation"
        if adapter.unknown is not None:
            logits[:, adapter.unknown] = -torch.inf  # is never generated
        logits[:, ends] = -torch.inf
        chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0]
        finite = logits[logits.isfinite()]
        if (logits.max(dim=1).values - chosen > _MARGIN.get(model.dtype, 0.1) * finite.std()).any():
            return "answers that are generated together are not those that the model prefers for each row alone"
    return None
