"""The facts that a model card states, and the same facts without tokens and local folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..public import as_json, known_tokens, public_path, public_values, redact, without_folders

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("full", "lora", "merged")
_METHODS = {
    "DELORA": "DeLoRA",
    "GLORA": "GLoRA",
    "GRALORA": "GraLoRA",
    "HIRA": "HiRA",
    "LN_TUNING": "LayerNorm tuning",
    "LOHA": "LoHa",
    "LOKR": "LoKr",
    "LORA": "LoRA",
    "MISS": "MiSS",
    "PVERA": "PVeRA",
    "RANDLORA": "RandLoRA",
    "ROAD": "RoAd",
    "SHIRA": "SHiRA",
    "TINYLORA": "TinyLoRA",
    "TRAINABLE_TOKENS": "trainable tokens",
    "UNILORA": "UniLoRA",
    "VBLORA": "VB-LoRA",
    "VERA": "VeRA",
    "WAVEFT": "WaveFT",
}
"""`peft.PeftType` -> how the method is written, where that differs."""


@dataclass(kw_only=True)
class CardSample:
    """A question with the model's answer, shown on the card.

    Example:
        >>> CardSample(question="How many bars?", answer="3", prediction="3", correct=1.0).allowed
        False
    """

    question: str
    answer: Any
    """The label: a string, a number, or a list of accepted answers."""
    prediction: str
    image: Image.Image | None = None
    """The chart; `None` shows the question alone."""
    allowed: bool = False
    """Whether the chart may be published, because this library drew it or its owner has agreed."""
    correct: float | None = None
    """The metric's verdict, between 0.0 and 1.0."""


@dataclass(kw_only=True)
class CardFacts:
    """Everything that a model card states. Strings may contain anything: they are shown literally, without tokens.

    Example:
        >>> CardFacts(name="alice/model", kind="full", base_model="ahmed-masry/unichart-base-960").metric_variant
        'pix2struct'
    """

    name: str
    """`owner/model` on the Hub, or the name of a folder. Of an absolute path only the last part is shown."""
    revision: str | None = None
    """The branch of `name` that the model is pushed to; `None` is `main`."""
    kind: str
    """What is stored: `"full"`, `"lora"` (PEFT weights of any method) or `"merged"` (base model and PEFT weights in
    one)."""
    base_model: str | None = None
    """Name on the Hub or folder of the model that training started from."""
    base_revision: str | None = None
    """Branch, tag or commit of the base model; `None` if it is not pinned."""
    base_is_peft: bool = False
    """Whether the base model itself is a PEFT checkpoint, which `load_checkpoint` merges first."""
    licence: str | Sequence[str] | None = None
    """One or several licenses, as the base model's card states them (`license:`); `None` if unknown."""
    licence_unread: bool = False
    """Whether `licence` is unknown because the base model's card could not be read."""
    licence_name: str | None = None
    """The base model's `license_name:`, for the license `other`."""
    licence_link: str | None = None
    """The base model's `license_link:`, for the license `other`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`adapter.settings()`: the kind of adapter and the prompt."""
    prompt: str | None = None
    """The prompt, with the field `{question}`; `None` takes that of `settings`."""
    task_prompts: Mapping[str, str] = field(default_factory=dict)
    """Task -> template of its prompt, for the tasks beside `qa` that the model was scored on."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """What the metrics of these tasks depend on, such as the settings and version of BLEU."""
    model_type: str | None = None
    """`config.model_type`, for families whose processors are called in a way of their own."""
    vocabulary_grown: bool = False
    """Whether the tokenizer of PEFT weights has tokens that the base model lacks."""
    compat: bool = False
    """Whether the model keeps the numbers of transformers 4.28.1."""
    dataset: str | None = None
    """Name on the Hub, or file, of the data that the model was trained and scored on."""
    other_datasets: Sequence[str] = ()
    """Names of the data sets that were mixed with it in training."""
    dataset_revision: str | None = None
    """Branch, tag or commit of the data set."""
    train_split: str | None = None
    """The split that the model was trained on."""
    eval_split: str | None = None
    """The split that the model was scored on."""
    eval_part: str | None = None
    """Name of the data set that `metrics` belong to, if a dict of several was evaluated."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The dict of `relaxed_accuracy` for these weights: fractions with their intervals. Other keys are ignored. An
    accuracy that is missing, not finite or without its n is left out."""
    metric_prefix: str = ""
    """Prefix of every key of `metrics`, such as a Trainer's `"eval_"`."""
    metric_variant: str = "pix2struct"
    """Variant of relaxed accuracy."""
    metric_extract: str | None = None
    """The step that found the answers in the generated texts before they were scored; `None` if there was none."""
    metric_interval: str = "wilson"
    """How the intervals in `metrics` were computed: `"wilson"`, `"bootstrap"` or `"clustered"`."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Generation settings of the evaluation: `num_beams`, `max_new_tokens` and others."""
    step: int | None = None
    """The optimizer step of the weights."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """`args.to_sanitized_arguments()`. Values with a secret name (`*_token`, `*_key`, ...) are left out at any depth,
    and removed everywhere."""
    secrets: Sequence[str] = field(default=(), repr=False)
    """Secrets of the run that no argument above names. They are removed everywhere and not shown."""
    default_arguments: Mapping[str, Any] = field(default_factory=dict)
    """The defaults of `arguments`. The card lists the arguments that shape the model and differ from their default."""
    num_processes: int | None = None
    """The number of training processes."""
    peft_config: Mapping[str, Any] = field(default_factory=dict)
    """`peft_config.to_dict()` of PEFT weights. The card names the method by its `peft_type`."""
    log_history: Sequence[Mapping[str, Any]] = ()
    """`trainer.state.log_history`, for the training curve."""
    samples: Sequence[CardSample] = ()
    """Questions with answers; the first three are shown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages, by their name."""
    checked: str | None = None
    """The result of `check_model` on this model, `report.summary`; `None` if it was not checked."""
    command: str | None = None
    """The command that reproduces the model."""
    created: str | None = None
    """Date, such as `2025-01-31`. With it, two cards of the same model differ."""


def without_tokens(facts: CardFacts) -> CardFacts:
    """Return a copy without secrets, and without the folders of this machine in arguments, command and name.

    Example:
        >>> facts = CardFacts(name="/home/alice/run-3", kind="full", command="train.py --hub_token abc123")
        >>> clean = without_tokens(facts)
        >>> clean.name, clean.command
        ('run-3', 'train.py --hub_token TOKEN_REMOVED')
    """
    tokens = sorted({*known_tokens(arguments=facts.arguments), *facts.secrets}, key=len, reverse=True)
    clean = {
        key: redact(value, tokens) for key, value in fields_of(facts).items() if key not in ("samples", "secrets")
    }
    clean["arguments"] = redact(public_values(as_json(facts.arguments)), tokens)
    if clean["command"] is not None:
        clean["command"] = public_path(clean["command"])
    samples = [CardSample(**{**redact(fields_of(sample), tokens), "image": sample.image}) for sample in facts.samples]
    clean["name"] = without_folders(clean["name"])
    return CardFacts(**{**clean, "samples": samples})


def licences(facts: CardFacts) -> list[str]:
    """Return the licenses of the base model, as its card names them.

    Example:
        >>> licences(CardFacts(name="alice/model", kind="full", licence="mit"))
        ['mit']
    """
    given = [facts.licence] if isinstance(facts.licence, str) else facts.licence or []
    return [str(name) for name in given if name]


def peft_method(facts: CardFacts) -> str | None:
    """Return the name of the PEFT method of the weights, as its paper writes it; `None` for a model without any.

    Weights whose method is unknown count as LoRA.

    Example:
        >>> peft_method(CardFacts(name="alice/model", kind="lora", peft_config={"peft_type": "LOHA"}))
        'LoHa'
        >>> peft_method(CardFacts(name="alice/model", kind="merged"))
        'LoRA'
    """
    if facts.kind == "full":
        return None
    kind = facts.peft_config.get("peft_type")
    name = str(getattr(kind, "name", kind) or "LORA")
    return _METHODS.get(name, name)


def fields_of(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance by name, without copying their values.

    Example:
        >>> fields_of(CardSample(question="How many bars?", answer=3, prediction="3"))["answer"]
        3
    """
    return {item.name: getattr(instance, item.name) for item in dataclasses.fields(instance)}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON holds them, without those that are `None`.

    Example:
        >>> plain({"num_beams": 4, "length_penalty": None})
        {'num_beams': 4}
    """
    return {str(key): as_json(value) for key, value in values.items() if value is not None}
