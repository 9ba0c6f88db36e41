"""Which of PEFT's methods can be trained, evaluated and saved here, and why others cannot.

Evaluations and answers call the model inside the `PeftModel`, where questions on one chart share an encoder pass. The
weights of a method must therefore sit in the layers of that model. Methods that act in the forward pass of the
`PeftModel` would be trained and then left out; methods with a loss or a schedule of their own would lose it. They are
refused by name.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.version import Version
from torch import nn

if TYPE_CHECKING:
    from peft import PeftConfig

INSTEAD = "use LoRA (default_lora_config) or another method whose weights sit in the layers"


class PeftMethod(NamedTuple):
    """What is known of one of PEFT's methods."""

    refusal: str | None = None
    """Why the method is refused; `None` if it works."""
    can_merge: bool = True
    """Whether its weights can be merged into the base model."""


_WORKS = PeftMethod()
_OUTSIDE = "in the forward pass of the PeftModel, which evaluations do not call"
_PROMPT = PeftMethod(f"it adds virtual tokens {_OUTSIDE}")

PEFT_METHODS: dict[str, PeftMethod] = {
    # Weights inside the layers.
    "LORA": _WORKS,
    "ADAMSS": _WORKS,
    "BEFT": _WORKS,
    "BOFT": _WORKS,
    "C3A": _WORKS,
    "DEFT": _WORKS,
    "DELORA": _WORKS,
    "FOURIERFT": _WORKS,
    "FROD": _WORKS,
    "GLORA": _WORKS,
    "GRALORA": _WORKS,
    "HIRA": _WORKS,
    "HRA": _WORKS,
    "IA3": _WORKS,
    "LILY": PeftMethod(can_merge=False),
    "LN_TUNING": _WORKS,
    "LOHA": _WORKS,
    "LOKR": _WORKS,
    "MISS": _WORKS,
    "OFT": _WORKS,
    "OSF": _WORKS,
    "PEANUT": _WORKS,
    "PSOFT": _WORKS,
    "PVERA": _WORKS,
    "RANDLORA": _WORKS,
    "ROAD": _WORKS,
    "SHIRA": _WORKS,
    "SUPERTUNING": _WORKS,
    "TINYLORA": _WORKS,
    "TRAINABLE_TOKENS": _WORKS,
    "UNILORA": _WORKS,
    "VBLORA": _WORKS,
    "VERA": _WORKS,
    "WAVEFT": _WORKS,
    # Methods that act in the forward pass of the PeftModel.
    "CARTRIDGE": _PROMPT,
    "CPT": _PROMPT,
    "MULTITASK_PROMPT_TUNING": _PROMPT,
    "P_TUNING": _PROMPT,
    "PREFIX_TUNING": _PROMPT,
    "PROMPT_TUNING": _PROMPT,
    "ADAPTION_PROMPT": PeftMethod("it replaces the attention of plain Llama and Mistral models only"),
    "POLY": PeftMethod("it needs a task id for every row, which batches of charts do not have"),
    "SHADOW": PeftMethod(f"it runs a second network {_OUTSIDE}"),
    "XLORA": PeftMethod(f"it weights other PEFT checkpoints {_OUTSIDE}"),
    # Methods with a loss or a schedule of their own.
    "ADALORA": PeftMethod(
        "its orthogonality loss and its rank updates (update_and_allocate) are not part of the training loop"
    ),
}  # fmt: skip
"""The methods by the names of `peft.PeftType`. A method that is not listed is refused as unknown."""

_OPTIONS: dict[str, str] = {
    "alora_invocation_tokens": f"activated LoRA acts {_OUTSIDE}",
    "arrow_config": "Arrow combines other PEFT checkpoints, which are not saved with this one",
    "kasa_config": "the loss terms of KaSA are not part of the training loop",
    "monteclora_config": "the loss terms of MonteCLoRA are not part of the training loop",
    "layer_replication": "it changes the number of layers of the base model, which the checkpoint does not record",
    "use_asa": "the schedule of AdaMSS (update_and_allocate) is not part of the training loop",
    "save_only_topk_weights": "it saves a part of the logits, and loading and resuming need all of them",
}
"""Options that no method is trained with here, and why."""

_PREPARED = {
    "corda": "peft.tuners.lora.corda.preprocess_corda",
    "eva": "peft.initialize_lora_eva_weights",
    "lora_ga": "peft.tuners.lora.loraga.preprocess_loraga",
    "loftq": "a LoftQ initialization",
}
"""Values of `init_lora_weights` that need statistics of the base model, and what computes them."""


def method_of(config: PeftConfig) -> str:
    """Return the name of a configuration's method, a key of `PEFT_METHODS`.

    Example:
        >>> from peft import LoHaConfig
        >>> method_of(LoHaConfig())
        'LOHA'
    """
    kind = config.peft_type
    return str(getattr(kind, "name", kind))


def check_peft_config(config: Any, *, where: str = "peft_config") -> None:
    """Refuse a PEFT configuration whose method or options would be trained and then left out.

    Args:
        config: A `peft.PeftConfig`.
        where: What the error message calls it.

    Raises:
        TypeError: It is not a `peft.PeftConfig`.
        ValueError: The method or one of its options is not supported; the message names it and says what to do.

    Example:
        >>> from peft import PrefixTuningConfig
        >>> check_peft_config(PrefixTuningConfig(num_virtual_tokens=4))
        Traceback (most recent call last):
        ValueError: peft_config: PREFIX_TUNING is not supported: it adds virtual tokens in the forward pass of the \
PeftModel, which evaluations do not call. Use LoRA (default_lora_config) or another method whose weights sit in the \
layers
    """
    from peft import PeftConfig

    if not isinstance(config, PeftConfig):
        raise TypeError(
            f"{where} must be one configuration of PEFT, such as default_lora_config(model), got "
            f"{type(config).__name__}"
        )
    if config.peft_type is None:
        raise ValueError(f"{where} is a plain {type(config).__name__} without a method: {INSTEAD}")
    name = method_of(config)
    method = PEFT_METHODS.get(name)
    if method is None:
        raise ValueError(
            f"{where}: {name} is not supported: this version of chartqa_ft does not know the method. "
            f"{_sentence(INSTEAD)}"
        )
    if method.refusal is not None:
        raise ValueError(f"{where}: {name} is not supported: {method.refusal}. {_sentence(INSTEAD)}")
    for option, reason in _OPTIONS.items():
        if getattr(config, option, None):
            raise ValueError(f"{where}: {option} is not supported: {reason}. Leave {option} out")


def check_new_weights(config: PeftConfig) -> None:
    """Refuse initial weights that could not be made again when the checkpoint is loaded.

    PiSSA, OLoRA and similar methods change the weights of the base model too. PEFT computes that change again on
    loading, which gives the same weights only if it is deterministic.

    Raises:
        ValueError: The initialization needs data or is random; the message names it.

    Example:
        >>> from peft import LoraConfig
        >>> check_new_weights(LoraConfig(init_lora_weights="pissa_niter_4"))
        Traceback (most recent call last):
        ValueError: peft_config: init_lora_weights='pissa_niter_4' changes the base model at random, and a saved \
checkpoint would be loaded on other weights: use 'pissa'
    """
    if getattr(config, "bias", None) == "lora_only" and Version(version("peft")) < Version("0.21"):
        # PEFT 0.20 looks for the biases under the names that they had before, and saves none.
        raise ValueError(
            "peft_config: this version of PEFT does not save the weights of bias='lora_only': use bias='all' or "
            "peft>=0.21"
        )
    initial = getattr(config, "init_lora_weights", None)
    if not isinstance(initial, str):
        return
    if initial in _PREPARED:
        raise ValueError(
            f"peft_config: init_lora_weights={initial!r} needs {_PREPARED[initial]}, which this trainer does not run: "
            "leave init_lora_weights out, or use 'pissa' or 'olora', which need no data"
        )
    if initial.startswith("pissa_niter"):
        raise ValueError(
            f"peft_config: init_lora_weights={initial!r} changes the base model at random, and a saved checkpoint "
            "would be loaded on other weights: use 'pissa'"
        )


def check_active_methods(model: nn.Module) -> None:
    """Refuse to answer with a PEFT model whose method would be left out of the answers.

    Args:
        model: Any model; one without PEFT weights passes.

    Raises:
        ValueError: The method of the active PEFT weights is not supported.
    """
    configs = getattr(model, "peft_config", None)
    if not configs:
        return
    active = getattr(model, "active_adapters", None)
    active = active() if callable(active) else active
    for name in active or configs:
        if name in configs:
            check_peft_config(configs[name], where=f"the PEFT weights {name!r} of the model")


def check_can_merge(config: PeftConfig, where: str) -> None:
    """Refuse to merge PEFT weights of a method that cannot be merged.

    Raises:
        ValueError: The method cannot be merged; the message names it.

    Example:
        >>> from peft import LilyConfig, LoraConfig
        >>> check_can_merge(LoraConfig(), "run/out")
        >>> check_can_merge(LilyConfig(), "run/out")
        Traceback (most recent call last):
        ValueError: run/out: LILY weights cannot be merged into the base model: load and push them with merge=False
    """
    name = method_of(config)
    if not PEFT_METHODS.get(name, _WORKS).can_merge:
        raise ValueError(
            f"{where}: {name} weights cannot be merged into the base model: load and push them with merge=False"
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
