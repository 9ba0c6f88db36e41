"""Render the card of a fine-tuned model, `README.md`, and write it with its pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...files import write_whole
from ...images.rgb import to_rgb
from ...metrics.answers import as_targets
from ...metrics.correctness import variant_name
from ...metrics.task_table import task_rows
from ...reporting.curve import draw_curve, training_series
from ..public import hub_name, short_name
from .facts import KINDS, CardFacts, CardSample, fields_of, licences, peft_method, plain, without_tokens
from .hyperparameters import hyperparameters
from .markdown import escaped, fenced, literal
from .metadata import CARD_NAME, confidence_of, metadata, read_card, score_rows
from .rules import RULES

__all__ = ["RULES", "CardFacts", "CardSample", "hyperparameters", "read_card", "render_card", "write_card"]

TEMPLATES = Path(__file__).parent
MOST_SAMPLES = 3
SAMPLE_PIXELS = 768
"""Longest side of a sample chart, in pixels."""

_ASSETS = "assets"
_CURVE = f"{_ASSETS}/training_curve.png"

_ASKED = {
    "decoder-prompt": "into the decoder, before the answer",
    "encoder-prompt": "into the encoder",
    "causal": "into the prompt that the answer continues",
}


def write_card(folder: str | Path, facts: CardFacts, *, include_images: bool = False) -> Path:
    """Write a card, `README.md`, and its pictures in `assets/`. Pictures of an earlier card are removed.

    Each file appears whole or not at all, the card last.

    Args:
        folder: the model's folder, created if it is missing.
        facts: what the card states.
        include_images: show the charts of all samples, not only of those that are marked as `allowed`.

    Returns:
        The path of the card.

    Raises:
        ValueError: see `render_card`.

    Example:
        >>> import tempfile
        >>> write_card(tempfile.mkdtemp(), CardFacts(name="alice/model", kind="full")).name
        'README.md'
    """
    folder, facts = Path(folder), without_tokens(facts)
    text = render_card(facts, include_images=include_images)
    pictures = _pictures(facts, include_images)
    for old in [folder / _CURVE, *(folder / _sample_path(number) for number in range(MOST_SAMPLES))]:
        if old.relative_to(folder).as_posix() not in pictures:
            old.unlink(missing_ok=True)
    for name, content in pictures.items():
        write_whole(folder / name, content)
    return write_whole(folder / CARD_NAME, text.encode("utf-8"))


def render_card(facts: CardFacts, *, include_images: bool = False) -> str:
    """Return the text of a card: metadata as YAML, then Markdown.

    The text refers to the pictures that `write_card` writes.

    Args:
        facts: what the card states.
        include_images: as in `write_card`.

    Raises:
        ValueError: the kind or the variant of relaxed accuracy is unknown.

    Example:
        >>> card = render_card(CardFacts(name="alice/model", kind="full", base_model="bob/base", licence="mit"))
        >>> "# model" in card, "license: mit" in card
        (True, True)
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if facts.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {facts.kind!r}")
    facts = without_tokens(facts)
    data, rows = metadata(facts), score_rows(facts)
    # All values that a template prints are escaped, except `Markup`.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(literal=literal, fenced=fenced)
    samples = [
        {
            **fields_of(sample),
            "answer": _as_label(sample.answer),
            "picture": _picture_of(number, sample, include_images),
        }
        for number, sample in enumerate(facts.samples[:MOST_SAMPLES])
    ]
    losses, accuracies = training_series(facts.log_history)
    body = environment.get_template("model_card.md").render(
        facts=facts,
        method=peft_method(facts),
        place=_place(facts),
        title=short_name(facts.name),
        base=_link(facts.base_model),
        base_on_hub=hub_name(facts.base_model),
        dataset=_link(facts.dataset, "datasets/"),
        licence=", ".join(licences(facts)),
        of_chartqa="chartqa" in (facts.dataset or "").lower(),
        adapter=facts.settings.get("adapter"),
        asked=_ASKED.get(str(facts.settings.get("adapter"))),
        prompt=_prompt(facts),
        rows=rows,
        tasks=task_rows(facts.metrics, prefix=facts.metric_prefix),
        confidence=confidence_of(facts),
        rule=RULES[variant_name(facts.metric_variant)],
        variant=variant_name(facts.metric_variant),
        decoding=plain(facts.decoding),
        settings=_as_keywords({"num_beams": 1, "max_new_tokens": 128, **facts.decoding}),
        hyperparameters=hyperparameters(facts),
        curve=_CURVE if losses or accuracies else None,
        samples=samples,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


# ------------------------------------------------------------------ text
def _link(name: str | None, kind: str = "") -> Any:
    """Return a name, with a link if it is a name on the Hub."""
    if name is None or hub_name(name) is None:
        return None if name is None else escaped(short_name(name))
    return Markup(f"[{escaped(name)}](https://huggingface.co/{kind}{name})")


def _place(facts: CardFacts) -> Markup:
    """Return the model's place as arguments of `load_checkpoint` and `from_pretrained`."""
    branch = None if facts.revision in (None, "", "main") else facts.revision
    return literal(facts.name) if branch is None else Markup(f"{literal(facts.name)}, revision={literal(branch)}")


def _prompt(facts: CardFacts) -> str | None:
    prompt = facts.settings.get("prompt") if facts.prompt is None else facts.prompt
    return prompt if prompt is None else str(prompt)


def _as_keywords(values: Mapping[str, Any]) -> Markup:
    """Return generation settings as the keyword arguments of a snippet; those without a simple value are left out."""
    simple = (bool, int, float, str)
    pairs = [(key, value) for key, value in plain(values).items() if key.isidentifier() and isinstance(value, simple)]
    return Markup(", ".join(f"{key}={literal(value)}" for key, value in pairs if key != "do_sample"))


def _as_label(answer: Any) -> str:
    return " / ".join(as_targets(answer))


# ------------------------------------------------------------------ pictures
def _sample_path(number: int) -> str:
    return f"{_ASSETS}/sample_{number + 1}.png"


def _picture_of(number: int, sample: CardSample, include_images: bool) -> str | None:
    shown = sample.image is not None and (sample.allowed or include_images)
    return _sample_path(number) if shown else None


def _pictures(facts: CardFacts, include_images: bool) -> dict[str, bytes]:
    """Return the PNG of every picture of the card by its path in the repository."""
    curve = draw_curve(facts.log_history)
    pictures = {} if curve is None else {_CURVE: curve}
    for number, sample in enumerate(facts.samples[:MOST_SAMPLES]):
        path = _picture_of(number, sample, include_images)
        if path is not None:
            pictures[path] = _as_png(sample.image)
    return pictures


def _as_png(image: Any) -> bytes:
    """Return only a chart's pixels, without the comments, places and cameras that its file may name."""
    chart = to_rgb(image).copy()
    chart.thumbnail((SAMPLE_PIXELS, SAMPLE_PIXELS))
    chart.info = {}
    file = io.BytesIO()
    chart.save(file, "PNG", optimize=True)
    return file.getvalue()
