"""What a model card says: the facts, free of tokens and of the folders of the machine that they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..public import as_json, known_secrets, last_part, redacted

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("full", "lora", "merged")


@dataclass(kw_only=True)
class CardSample:
    """A question that the model was asked."""

    question: str
    answer: Any
    """The label: text, a number, or a list of accepted ones."""
    prediction: str
    image: Image.Image | None = None
    """The chart; `None`: the question is shown alone."""
    allowed: bool = False
    """Whether the picture may be published: it is drawn by us, or its owner said so."""
    correct: float | None = None
    """The verdict of the metric, 0.0 to 1.0."""


@dataclass(kw_only=True)
class CardFacts:
    """What a card says. Every text may hold anything: it is shown as it is, without tokens."""

    name: str
    """`user/model` on the Hub, or the name of a folder; an absolute path is shortened to its last part."""
    revision: str | None = None
    """The branch of `name` that it is pushed to; `None`: `main`."""
    kind: str
    """What is stored: `"full"`, `"lora"` (an adapter alone) or `"merged"` (base and adapter in one)."""
    base_model: str | None = None
    """Name on the Hub or folder of the model that training began from."""
    base_revision: str | None = None
    """Branch, tag or commit of the base model; `None`: not pinned."""
    base_is_peft: bool = False
    """Whether the base model is itself stored as a PEFT adapter, which `load_checkpoint` merges first."""
    licence: str | Sequence[str] | None = None
    """The base model's, one or several, as its card gives them (`license:`), carried over; `None`: unknown, and so
    said."""
    licence_unread: bool = False
    """Whether `licence` is unknown because the base model's card could not be read, whatever stands in it."""
    licence_name: str | None = None
    """Beside the licence `other`, as the base model's card gives it (`license_name:`)."""
    licence_link: str | None = None
    """Likewise (`license_link:`)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`adapter.settings()`: the kind of adapter and the prompt."""
    prompt: str | None = None
    """How a question is put, with the field `{question}`; `None`: that of `settings`."""
    model_type: str | None = None
    """`config.model_type`, for families whose processors are called in their own way."""
    vocabulary_grown: bool = False
    """Whether an adapter's tokenizer has tokens that its base model lacks."""
    compat: bool = False
    """Whether the model keeps the numbers of transformers 4.28.1."""
    dataset: str | None = None
    """Name on the Hub, or file, of the data that the model was trained and scored on."""
    dataset_revision: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    eval_part: str | None = None
    """Name of the data that `metrics` are of, where a dict of several was evaluated."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What `relaxed_accuracy` returns (fractions, with Wilson intervals), of the weights that the card stands beside.
    Other keys are ignored; an accuracy that is absent, not finite or without its n has no row."""
    metric_prefix: str = ""
    """Before every key of `metrics`, as a Trainer puts it: `"eval_"`."""
    metric_variant: str = "pix2struct"
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Of that scoring: `num_beams`, `max_new_tokens` and other settings of generation."""
    step: int | None = None
    """The optimizer step of the weights."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """`args.to_sanitized_arguments()`. Keys that end in `token` are left out, their values removed everywhere."""
    default_arguments: Mapping[str, Any] = field(default_factory=dict)
    """The defaults of `arguments`: the card lists an argument that shapes the model if it differs from its default."""
    num_processes: int | None = None
    peft_config: Mapping[str, Any] = field(default_factory=dict)
    """`peft_config.to_dict()` of an adapter."""
    log_history: Sequence[Mapping[str, Any]] = ()
    """`trainer.state.log_history`, for the curve."""
    samples: Sequence[CardSample] = ()
    """The first three are shown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version."""
    command: str | None = None
    """What to run to make this model again."""
    created: str | None = None
    """The day it was made, as `2025-01-31`; it makes two cards of the same model differ."""


def without_tokens(facts: CardFacts) -> CardFacts:
    """A copy that holds no token, in which folders of this machine are cut off the model's name."""
    secrets = known_secrets(facts.arguments)
    arguments = {key: value for key, value in facts.arguments.items() if not str(key).lower().endswith("token")}
    clean = {key: redacted(value, secrets) for key, value in fields_of(facts).items() if key != "samples"}
    clean["arguments"] = redacted(as_json(arguments), secrets)
    samples = [
        CardSample(**{**redacted(fields_of(sample), secrets), "image": sample.image}) for sample in facts.samples
    ]
    clean["name"] = last_part(clean["name"], folders_only=True)
    return CardFacts(**{**clean, "samples": samples})


def licences(facts: CardFacts) -> list[str]:
    """The names of the licences, each as the base model's card gives it."""
    given = [facts.licence] if isinstance(facts.licence, str) else facts.licence or []
    return [str(name) for name in given if name]


def fields_of(facts: Any) -> dict[str, Any]:
    return {item.name: getattr(facts, item.name) for item in dataclasses.fields(facts)}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): as_json(value) for key, value in values.items() if value is not None}
