"""Check what tokenizer and processor make of a prompt, before the first record is encoded."""

from __future__ import annotations

from typing import Any

from PIL import Image

from .tasks.task_text import TaskText

_PROBE = "7"


def check_prompt_inputs(adapter: Any) -> None:
    """Check that tokenizer and processor of an adapter write its prompts as the model needs them.

    Args:
        adapter: The `Adapter`, after its `setup`.

    Raises:
        ValueError: They do not; the message says what to set.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> check_prompt_inputs(adapter_for(*tiny_unichart("test")))
    """
    if not _reads_tokens(adapter):
        return
    _check_splitting(adapter)
    if hasattr(adapter, "prompt_batch"):
        _check_padding(adapter)
        check_places(adapter, adapter.prompt)
        if adapter.prompt_key == "input_ids":
            _check_end(adapter)


def check_places(adapter: Any, prompt: str) -> None:
    """Check that a prompt does not hold the place of the chart where the family puts the chart itself.

    Args:
        adapter: The `Adapter`, after its `setup`.
        prompt: The template of a prompt.

    Raises:
        ValueError: It does, so that there would be two places for one chart.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> check_places(adapter_for(*tiny_unichart("test")), "<image> {question}")
    """
    if not (_reads_tokens(adapter) and hasattr(adapter, "prompt_batch")):
        return
    found = (getattr(adapter.processor, name, None) for name in ("image_token", "boi_token"))
    places = {str(getattr(token, "content", token)) for token in found if token}
    places = {place for place in places if place in prompt}
    without = prompt
    for place in places:
        without = without.replace(place, "")
    batch = _trial(adapter, without) if places else None
    if batch is None or not any(adapter.image_tokens(batch) or ()):
        return
    raise ValueError(
        f"the prompt {prompt!r} holds {' and '.join(sorted(places))}, the place of a chart, which is added to every "
        "prompt anyway: leave it out"
    )


def _reads_tokens(adapter: Any) -> bool:
    """Return whether the prompt reaches the model as tokens; Pix2Struct reads it in the picture."""
    return "input_ids" in getattr(adapter, "forward_names", ("input_ids",))


def _trial(adapter: Any, prompt: str) -> Any:
    """Return what the processor makes of a chart and a prompt, or `None` if it fails."""
    chart = Image.new("RGB", (96, 64), "white")
    try:
        return adapter.prompt_batch([{"question": TaskText(_PROBE, prompt)}], [chart])
    except Exception:  # of any type; that of a record names the record
        return None


def _check_splitting(adapter: Any) -> None:
    tokenizer = adapter.tokenizer
    text = f"{adapter.prompt}{tokenizer.eos_token or ''}"
    if getattr(tokenizer, "split_special_tokens", False) and (
        tokenizer([text], add_special_tokens=False)["input_ids"]
        != tokenizer([text], add_special_tokens=False, split_special_tokens=False)["input_ids"]
    ):
        raise ValueError(
            "the tokenizer splits special tokens, so that those of prompts and the end of answers would be spelled in "
            "pieces: set processor.tokenizer.split_special_tokens = False"
        )


def _check_padding(adapter: Any) -> None:
    own = type(adapter).prompt_batch.__module__.partition(".")[0] == __name__.partition(".")[0]
    if own and adapter.tokenizer.pad_token_id is None:
        raise ValueError(
            "the tokenizer has no pad_token to make prompts equally long: set processor.tokenizer.pad_token, such as "
            "to processor.tokenizer.eos_token"
        )


def _check_end(adapter: Any) -> None:
    """Check that the tokenizer puts no EOS between prompt and answer."""
    tokenizer = adapter.tokenizer
    if not _ends(adapter, tokenizer([_PROBE])["input_ids"][0]):
        return
    # Chat templates that begin with BOS, and the processors of some families, do without its special tokens.
    batch = _trial(adapter, adapter.prompt)
    if batch is None:
        return
    ids = batch["input_ids"][0][batch["attention_mask"][0].bool()].tolist()
    if _ends(adapter, ids) > _ends(adapter, adapter.tokenize([adapter.prompt_text(_PROBE)])[0]):
        raise ValueError(
            f"the tokenizer adds {tokenizer.convert_ids_to_tokens(ids[-1])!r} to the end of every prompt, so that "
            "answers would follow the token that ends them: set processor.tokenizer.add_eos_token = False, or take "
            "the token out of the post-processor of the tokenizer"
        )


def _ends(adapter: Any, ids: list[int]) -> int:
    """Return how many of the last ids end an answer."""
    return next((n for n, token in enumerate(reversed(ids)) if token not in adapter.eos_token_ids), len(ids))
