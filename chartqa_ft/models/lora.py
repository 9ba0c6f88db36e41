"""LoRA for every family: a default configuration, and tokens to train along with the adapted layers."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from functools import cache
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import nn

from ..adapters import base_model
from ..adapters.argument_checks import check_model, check_switch
from ..adapters.vocabulary import declare_tying
from .lora_targets import as_pattern, block_linears, expert_parameters, share_of_blocks
from .origin import revision_of
from .peft_types import check_new_weights, check_peft_config
from .peft_values import check_peft_names, check_peft_values

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig

logger = logging.getLogger(__name__)

RANK, ALPHA, DROPOUT = 16, 32, 0.05


def default_lora_config(
    model: nn.Module,
    *,
    vision: bool = False,
    experts: bool = False,
    new_tokens: Sequence[int | str] = (),
    processor: Any = None,
    **overrides: Any,
) -> LoraConfig:
    """Return a `peft.LoraConfig` to start from, for `ChartQATrainer(peft_config=...)` or `peft.get_peft_model`.

    It adapts the linear layers of every transformer block on the text side: attention (self and cross) and MLP of the
    language model, or of the decoder and the text encoder (if any) of an encoder-decoder model. QLoRA found that
    adapting all of them, not only attention, is necessary to match full fine-tuning (arXiv:2305.14314, section 4).
    Embeddings, lm_head and the projector between vision and text are never adapted, nor are layers whose weights a
    block reads instead of calling the layer (`correction_coefs` of Gemma 3n), where LoRA would have no effect. Every
    adapted weight gets a gradient from every batch, so DistributedDataParallel does not need `find_unused_parameters`.

    The rank is 16: QLoRA found that it matters little once all layers are adapted. Alpha is 32, twice the rank, the
    ratio of LLaVA 1.5's own LoRA recipe (128 and 256, learning rate 2e-4, in its scripts/v1_5/finetune_lora.sh). The
    dropout of 0.05 is LLaVA's default and that of QLoRA for large models. No value was tuned on ChartQA. Suitable
    learning rates are 1e-4 to 2e-4.

    Args:
        model: The loaded base model, not yet wrapped by PEFT.
        vision: Adapt the blocks of the vision model as well, except blocks whose output is not used (LLaVA uses its
            vision model before the last block: `vision_feature_layer`).
        experts: In a mixture of experts, adapt the experts too, by `target_parameters`, without dropout (PEFT has none
            for them). Otherwise a warning says which share of the weights they are. Each expert gets a matrix of
            the given rank, and the forward pass builds the change of all experts of a layer at once, which takes as
            much memory as their weights.
        new_tokens: Tokens whose embeddings are trained as a whole (`trainable_token_indices`), as ids or as names,
            usually what `add_tokens` returned. Only these rows are trained and saved; both rows of a token if input
            and output embeddings are not tied.
        processor: Processor to look up the names in `new_tokens`.
        **overrides: Arguments of `peft.LoraConfig`, which replace the defaults (`r=8`, `use_dora=True`,
            `target_modules="all-linear"`). Use `check_gradients` to find `target_modules` that are not used.

    Raises:
        TypeError: `model` is not a model of transformers, or a setting has another type.
        ValueError: A setting is out of range or names a module that the model does not have; the model already has
            PEFT weights; no blocks were found (pass `target_modules`); `experts` is set and there are none; or a new
            token is not in the vocabulary or has no embedding yet.

    Example:
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> config = default_lora_config(model, r=8)
        >>> config.r, config.lora_alpha, config.target_modules.startswith("decoder")
        (8, 32, True)
    """
    from peft import LoraConfig

    if getattr(model, "peft_config", None):
        raise ValueError("this model already has PEFT weights: make the config from the base model")
    check_model(model)
    check_switch("vision", vision)
    model = base_model(model)
    settings: dict[str, Any] = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": DROPOUT}
    settings |= {"revision": revision_of(model), **overrides}
    chosen = overrides.get("target_modules", overrides.get("target_parameters"))
    if vision and chosen is not None:
        raise ValueError("vision=True chooses the layers, and target_modules names them: leave out one of them")
    if new_tokens and "trainable_token_indices" in overrides:
        raise ValueError("new_tokens= and trainable_token_indices= both name tokens: leave out one of them")
    if "target_modules" not in overrides and "target_parameters" not in overrides:
        settings["target_modules"] = as_pattern(model, block_linears(model, vision))
    if experts:
        settings |= {"target_parameters": _expert_targets(model), "lora_dropout": 0.0, **overrides}
    elif not settings.get("target_parameters"):
        _report_experts(model)
    if new_tokens:
        declare_tying(model)
        settings["trainable_token_indices"] = _token_rows(model, _token_ids(model, new_tokens, processor))
    config = LoraConfig(**settings)
    check_peft_values(config, where="LoraConfig")
    check_peft_names(model, config, where="LoraConfig")
    return config


def add_peft(model: nn.Module, peft_config: PeftConfig) -> nn.Module:
    """Wrap a base model, quantized or not, with PEFT; only the weights of `peft_config` are trainable.

    The config of the new weights stores the commit from which `load_checkpoint` loaded the base model, whatever
    `peft_config.revision` is: with the base model of another commit, the answers would differ.

    Raises:
        TypeError: `peft_config` is not a `peft.PeftConfig`.
        ValueError: The model already has PEFT weights, or the method of `peft_config` is not supported (see
            `models.peft_types`).

    Example:
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> model = add_peft(model, default_lora_config(model, r=2))
        >>> sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        1408
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "peft_config", None):
        raise ValueError(
            "peft_config= was given for a model that already has PEFT weights: leave it out to continue training "
            "those, or load the checkpoint with merge=True to train new ones on top"
        )
    check_peft_config(peft_config)
    check_new_weights(peft_config)
    check_peft_values(peft_config)
    check_peft_names(base_model(model), peft_config)
    peft_config = copy.copy(peft_config)
    peft_config.inference_mode = False  # as in the file of a checkpoint
    if (revision := revision_of(model)) is not None:
        peft_config.revision = revision
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if not getattr(peft_config, "target_parameters", None):
        _report_experts(model)
    declare_tying(model)  # as loading does: rows of trained tokens are then the same in tied embeddings
    return get_peft_model(model, peft_config)


def _expert_targets(model: nn.Module) -> list[str]:
    """Return `target_parameters` for the experts of a model: the ends of their names, as PEFT matches them."""
    names = expert_parameters(model)
    if not names:
        raise ValueError(
            f"experts=True, but no block of {type(model).__name__} has parameters with several experts: leave it out"
        )
    return sorted({re.split(r"\.\d+\.", name)[-1] for name in names})


def _report_experts(model: nn.Module) -> None:
    """Log a warning if a model has experts, none of which will be adapted."""
    names = expert_parameters(model)
    if names:
        _warn_once(
            f"the experts of {type(model).__name__} ({', '.join(_expert_targets(model))}) are not adapted. They are "
            f"{100 * share_of_blocks(model, names):.0f} % of the weights of its text blocks: "
            "default_lora_config(model, experts=True) adapts them too"
        )


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s.", message)


def check_gradients(model: nn.Module, *, strict: bool = False) -> list[str]:
    """Return the adapted modules that got no gradient in a backward pass, by their names in the base model.

    Whether a layer is used depends on the graph that autograd built, not on the modules: a layer may be called and its
    result discarded. This function therefore checks gradients (for `None`, not zero: the gradient of `lora_A` is zero
    as long as `lora_B` is zero). With `default_lora_config` all modules get gradients. With
    `target_modules="all-linear"`, the last vision block of LLaVA and the pooler of ViT encoders do not. Their weights
    take memory for nothing, and DistributedDataParallel fails at its second step.

    A layer that a model skips at random (`layerdrop` in its config) is returned too, and with DeepSpeed ZeRO or FSDP
    gradients may not be visible: use it only in plain training and DDP.

    Args:
        model: A `PeftModel` after `backward()`.
        strict: Raise instead of warning, for DistributedDataParallel with `find_unused_parameters=False`.

    Raises:
        ValueError: There are such modules and `strict` is set.
        RuntimeError: No weight has a gradient: there was no backward pass, or gradients were already cleared.
    """
    has_gradient: dict[str, bool] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module = _module_name(name)
            has_gradient[module] = has_gradient.get(module, False) or parameter.grad is not None
    if has_gradient and not any(has_gradient.values()):
        raise RuntimeError(
            "no trainable weight has a gradient: call check_gradients after backward(), before zero_grad()"
        )
    unused = sorted(module for module, has_one in has_gradient.items() if not has_one)
    if unused:
        shown = ", ".join(unused[:6]) + (f" and {len(unused) - 6} more" if len(unused) > 6 else "")
        message = (
            f"{len(unused)} adapted modules do not take part in the loss: {shown}. Exclude them (target_modules or "
            "exclude_modules of the LoraConfig; default_lora_config(model, vision=True) leaves them out)"
        )
        if strict:
            raise ValueError(f"{message}, or set ddp_find_unused_parameters=True")
        logger.warning("%s.", message)
    return unused


def _module_name(parameter: str) -> str:
    """Return the adapted module of a parameter: `lm.q_proj` for `base_model.model.lm.q_proj.lora_A.default.weight`."""
    name = re.sub(r"^(module\.)?base_model\.model\.", "", parameter)
    return re.sub(r"\.(lora_\w+|token_adapter|modules_to_save)\..*$", "", name)


def _token_ids(model: nn.Module, tokens: Sequence[int | str], processor: Any) -> list[int]:
    """Return the sorted ids of new tokens, checked against the vocabulary and the embeddings."""
    if isinstance(tokens, str):
        raise ValueError(f"new_tokens must be a list, got the string {tokens!r}: write [{tokens!r}]")
    vocabulary: dict[str, int] = {}
    if any(isinstance(token, str) for token in tokens):
        if processor is None:
            raise ValueError("new_tokens has names: pass processor=..., or the ids that add_tokens returned")
        vocabulary = getattr(processor, "tokenizer", processor).get_vocab()
    if wrong := [token for token in tokens if not isinstance(token, (str, Integral)) or isinstance(token, bool)]:
        raise ValueError(f"new_tokens must be token ids (int) or names (str), got {wrong}")
    unknown = [token for token in tokens if isinstance(token, str) and token not in vocabulary]
    if unknown:
        raise ValueError(f"{unknown} is not in the vocabulary: call add_tokens(model, processor, {unknown}) first")
    ids = sorted({vocabulary[token] if isinstance(token, str) else int(token) for token in tokens})
    rows = model.get_input_embeddings().weight.shape[0]
    outside = [index for index in ids if not 0 <= index < rows]
    if outside:
        raise ValueError(f"token ids {outside} have no embedding (there are {rows}): call add_tokens(...) first")
    return ids


def _token_rows(model: nn.Module, ids: list[int]) -> dict[str, list[int]]:
    """Return the rows to train by layer: of the input embeddings, and of the output embeddings if not tied."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    rows = {names[id(inputs)]: ids}
    # PEFT's layer of trainable rows drops the bias of a head, so a head with a bias is not trained.
    if outputs is not None and outputs.weight is not inputs.weight and outputs.bias is None:
        rows[names[id(outputs)]] = list(ids)
    return rows
