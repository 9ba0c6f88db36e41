"""The card of a fine-tuned model: `README.md` for people and for the Hub, with its pictures."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...metrics.correctness import variant_name
from ...reporting.curve import draw_curve, training_series
from ..public import as_json, hub_name, last_part
from .facts import KINDS, CardFacts, CardSample, fields_of, licences, plain, without_tokens
from .markdown import escaped, fenced, literal
from .metadata import CARD_NAME, confidence_of, metadata, read_card, table_rows

__all__ = ["RULES", "CardFacts", "CardSample", "hyperparameters", "read_card", "render_card", "write_card"]

TEMPLATES = Path(__file__).parent
MOST_SAMPLES = 3
SAMPLE_PIXELS = 768
"""Longest side of a sample chart."""

_ASSETS = "assets"
_CURVE = f"{_ASSETS}/training_curve.png"

_RELAXED = "what equals the label but for case, or is a number at most 5 % of the label away from it"
_SWAPPED = "what equals the label but for case, or is a number p that is at most 5 % of p away from the label"
RULES = {
    "pix2struct": f"{_RELAXED}; a trailing % divides by 100, a label of 0 is compared as text",
    "unichart": f"{_RELAXED}; texts with % are no numbers",
    "vlmevalkit": f"{_RELAXED}; a label that is a list is a choice of answers; spaces around predictions do not count",
    "swapped": _SWAPPED,
    "vlmevalkit_legacy": f"{_SWAPPED}; a label that is a list is a choice of answers",
    "lenient": f"{_RELAXED}; commas, dollar and percent signs and final punctuation are forgiven",
    "strict_year": f"{_RELAXED}; a label that is a year (1800 to 2100) has to be met exactly",
    "exact_match": "what equals the label but for case, numbers too",
    "chartqapro": "counted by item: a number at most 5 % of the label away is right, a text by its similarity to the "
    "label, from its edit distance (ANLS)",
}
"""Every variant of relaxed accuracy in a line: what is a right answer?"""

_ASKED = {
    "decoder-prompt": "into the decoder, before the answer",
    "encoder-prompt": "into the encoder",
    "causal": "into the prompt that the answer continues",
}
_SHOWN = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
    "label_smoothing_factor",
    "random_padding",
    "group_by_chart",
    "metric_for_best_model",
    "seed",
)
# Where a run put its files and how it was watched says nothing about the model.
_LOCAL = re.compile(
    r"(output_dir|overwrite_output_dir|run_name|project|trackio_.*|report_to|disable_tqdm|do_.*|log_.*|logging_.*|hub_.*"
    r"|push_to_hub.*|save_.*|resume_from_checkpoint|dataloader_.*|local_rank|ddp_.*|use_cpu|no_cuda|write_predictions"
    r"|per_device_eval_batch_size|eval_delay|restore_callback_.*|accelerator_config|.*_config|include_.*|.*token)"
)
_PEFT_SHOWN = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "revision")


def write_card(folder: str | Path, facts: CardFacts, *, include_images: bool = False) -> Path:
    """Write `README.md` and, in `assets/`, its pictures; pictures of an earlier card are removed.

    Each file appears whole or not at all, the card last.

    Args:
        folder: where the model is; made if missing.
        facts: what the card says.
        include_images: publish charts of samples that are not marked as `allowed` too.

    Returns:
        The path of the card.

    Raises:
        ValueError: see `render_card`.
    """
    folder, facts = Path(folder), without_tokens(facts)
    text = render_card(facts, include_images=include_images)
    pictures = _pictures(facts, include_images)
    for old in [folder / _CURVE, *(folder / _sample_path(number) for number in range(MOST_SAMPLES))]:
        if old.relative_to(folder).as_posix() not in pictures:
            old.unlink(missing_ok=True)
    for name, content in pictures.items():
        _write(folder / name, content)
    return _write(folder / CARD_NAME, text.encode("utf-8"))


def render_card(facts: CardFacts, *, include_images: bool = False) -> str:
    """The text of the card: a YAML block, then Markdown, which refers to the pictures that `write_card` writes.

    Raises:
        ValueError: an unknown kind or variant of relaxed accuracy.
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if facts.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {facts.kind!r}")
    facts = without_tokens(facts)
    data, rows = metadata(facts), table_rows(facts)
    # Whatever a template prints is escaped, unless it says that it is not text (`Markup`).
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
        place=_place(facts),
        title=last_part(facts.name),
        base=_link(facts.base_model),
        base_on_hub=hub_name(facts.base_model),
        dataset=_link(facts.dataset, "datasets/"),
        licence=", ".join(licences(facts)),
        of_chartqa="chartqa" in (facts.dataset or "").lower(),
        adapter=facts.settings.get("adapter"),
        asked=_ASKED.get(facts.settings.get("adapter")),
        prompt=_prompt(facts),
        rows=rows,
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


def hyperparameters(facts: CardFacts) -> dict[str, Any]:
    """Those arguments that shape the model: the important ones, and all others that are not at their defaults."""
    defaults = facts.default_arguments
    arguments = facts.arguments
    shown = {key: arguments[key] for key in _SHOWN if key in arguments}
    for key in sorted(arguments):
        if key not in shown and not _LOCAL.fullmatch(key) and arguments[key] != defaults.get(key):
            shown[key] = arguments[key]
    if facts.num_processes is not None:
        shown["processes"] = facts.num_processes
    for key in _PEFT_SHOWN:
        if facts.peft_config.get(key) not in (None, False):
            shown[key if key == "peft_type" else f"peft: {key}"] = as_json(facts.peft_config[key])
    return {key: _shown(value) for key, value in shown.items() if value is not None}


# ------------------------------------------------------------------ text
def _link(name: str | None, kind: str = "") -> Any:
    """A name with a link to the Hub, if it is one of the Hub's."""
    if name is None or hub_name(name) is None:
        return None if name is None else escaped(last_part(name))
    return Markup(f"[{escaped(name)}](https://huggingface.co/{kind}{name})")


def _place(facts: CardFacts) -> Markup:
    """Where the model is, as the arguments of `load_checkpoint` and `from_pretrained`."""
    branch = None if facts.revision in (None, "", "main") else facts.revision
    return literal(facts.name) if branch is None else Markup(f"{literal(facts.name)}, revision={literal(branch)}")


def _prompt(facts: CardFacts) -> str | None:
    prompt = facts.settings.get("prompt") if facts.prompt is None else facts.prompt
    return prompt if prompt is None else str(prompt)


def _as_keywords(values: Mapping[str, Any]) -> Markup:
    """Settings of generation as a snippet passes them on; those that are no plain values are left out."""
    simple = (bool, int, float, str)
    pairs = [(key, value) for key, value in plain(values).items() if key.isidentifier() and isinstance(value, simple)]
    return Markup(", ".join(f"{key}={literal(value)}" for key, value in pairs if key != "do_sample"))


def _shown(value: Any) -> str:
    """A hyper-parameter as text; of a path on this machine its last part."""
    if isinstance(value, str):
        return last_part(value, folders_only=True)
    return json.dumps(value, ensure_ascii=False)


def _as_label(answer: Any) -> str:
    from ...metrics.correctness import as_targets

    return " / ".join(as_targets(answer))


# ------------------------------------------------------------------ pictures
def _sample_path(number: int) -> str:
    return f"{_ASSETS}/sample_{number + 1}.png"


def _picture_of(number: int, sample: CardSample, include_images: bool) -> str | None:
    shown = sample.image is not None and (sample.allowed or include_images)
    return _sample_path(number) if shown else None


def _pictures(facts: CardFacts, include_images: bool) -> dict[str, bytes]:
    """Path in the repository -> PNG, of every picture of the card."""
    curve = draw_curve(facts.log_history)
    pictures = {} if curve is None else {_CURVE: curve}
    for number, sample in enumerate(facts.samples[:MOST_SAMPLES]):
        path = _picture_of(number, sample, include_images)
        if path is not None:
            pictures[path] = _as_png(sample.image)
    return pictures


def _as_png(image: Any) -> bytes:
    """A chart's pixels alone: what else its file said (comments, places, cameras) is nobody's business."""
    from ...images.rgb import to_rgb

    chart = to_rgb(image).copy()
    chart.thumbnail((SAMPLE_PIXELS, SAMPLE_PIXELS))
    chart.info = {}
    file = io.BytesIO()
    chart.save(file, "PNG", optimize=True)
    return file.getvalue()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
