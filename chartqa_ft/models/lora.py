"""LoRA for every family: which layers to adapt, tokens to train beside them, and quantized base models."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..adapters import base_model
from ..adapters.vocabulary import add_tokens, declare_tying, grow_vocabulary
from .origin import revision_of

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig

__all__ = [
    "add_peft",
    "add_tokens",
    "check_gradients",
    "default_lora_config",
    "grow_vocabulary",
    "quantized_loading",
]

logger = logging.getLogger(__name__)

RANK, ALPHA, DROPOUT = 16, 32, 0.05


def default_lora_config(
    model: nn.Module,
    *,
    vision: bool = False,
    new_tokens: Sequence[int | str] = (),
    processor: Any = None,
    **overrides: Any,
) -> LoraConfig:
    """The `peft.LoraConfig` to start from, for `ChartQATrainer(peft_config=...)` or `peft.get_peft_model`.

    Adapted are the linear layers of every transformer block of the text side: attention (self and cross) and MLP of
    the language model, or of the decoder of an encoder-decoder; of the text encoder too, where there is one. Adapting
    all of them, not attention alone, is what QLoRA found necessary to match full fine-tuning (arXiv:2305.14314,
    section 4). Never adapted are embeddings, lm_head and the projector between vision and text. Every adapted weight
    gets a gradient from every batch, so that DistributedDataParallel needs no `find_unused_parameters`.

    Rank 16: QLoRA found the rank to matter little once all layers are adapted. Alpha 32 and dropout 0.05: alpha twice
    the rank is the ratio of LLaVA 1.5's own LoRA recipe (128 and 256, learning rate 2e-4, in its
    scripts/v1_5/finetune_lora.sh); 0.05 is its default and QLoRA's for large models. No value was tuned on ChartQA.
    Learning rates of 1e-4 to 2e-4 go with them.

    Args:
        model: the loaded base model, not yet wrapped by PEFT.
        vision: adapt the blocks of the vision model as well. Blocks whose output is not used are left out (LLaVA reads
            its vision model before the last block: `vision_feature_layer`).
        new_tokens: tokens whose embeddings are trained whole (`trainable_token_indices`), as ids or as names, usually
            what `add_tokens` returned. Only these rows are trained and saved. Where input and output embeddings are
            not tied, both rows are.
        processor: to look up names among `new_tokens`.
        overrides: any argument of `peft.LoraConfig`; they win (`r=8`, `use_dora=True`, `target_modules="all-linear"`).
            `check_gradients` tells whether own `target_modules` are all in use.

    Raises:
        ValueError: the model already has an adapter; no blocks were found (name `target_modules`); a new token is not
            in the vocabulary or has no embedding yet.
    """
    from peft import LoraConfig

    if getattr(model, "peft_config", None):
        raise ValueError("this model already carries a PEFT adapter: take the config of the base model")
    model = base_model(model)
    settings: dict[str, Any] = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": DROPOUT}
    settings |= {"revision": revision_of(model), **overrides}
    if "target_modules" not in overrides and "target_parameters" not in overrides:
        settings["target_modules"] = _as_pattern(model, _block_linears(model, vision))
    if new_tokens and "trainable_token_indices" not in overrides:
        declare_tying(model)
        settings["trainable_token_indices"] = _token_rows(model, _token_ids(model, new_tokens, processor))
    return LoraConfig(**settings)


def add_peft(model: nn.Module, peft_config: PeftConfig) -> nn.Module:
    """Wrap a base model, quantized or not, by the adapter of `peft_config`; only the adapter's weights are trainable.

    The adapter stores the commit that `load_checkpoint` took the base model from, whatever `peft_config.revision` is:
    on another one it would answer otherwise.

    Raises:
        ValueError: the model already carries an adapter.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "peft_config", None):
        raise ValueError(
            "peft_config= was given for a model that already carries a PEFT adapter: leave it out to train that one "
            "on, or load with merge=True to train a new one on top"
        )
    if (revision := revision_of(model)) is not None:
        peft_config = copy.copy(peft_config)
        peft_config.revision = revision
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, peft_config)


def check_gradients(model: nn.Module, *, strict: bool = False) -> list[str]:
    """After a backward pass: the adapted modules, named as in the base model, of which no weight got a gradient.

    Whether a layer is in use shows in the graph that autograd built, not in the modules: a layer may be called and its
    result dropped. So this looks at gradients (`None`, not zero: `lora_A` has a zero gradient as long as `lora_B` is
    zero). `default_lora_config` yields none; `target_modules="all-linear"` does for LLaVA (last vision block), and ViT
    encoders (pooler). Such weights cost memory for nothing, and DistributedDataParallel stops at its second step.

    A layer that a model skips at random (`layerdrop` in its config) can be named too, and with DeepSpeed ZeRO or FSDP
    gradients may be out of sight: call it in plain training and DDP only.

    Args:
        strict: raise instead of warning; for DistributedDataParallel with `find_unused_parameters=False`.

    Raises:
        ValueError: `strict`, and there is such a module.
        RuntimeError: nothing has a gradient, so no backward pass was run, or gradients were already cleared.
    """
    got: dict[str, bool] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module = _module_name(name)
            got[module] = got.get(module, False) or parameter.grad is not None
    if got and not any(got.values()):
        raise RuntimeError(
            "no trainable weight has a gradient: call check_gradients after backward(), before zero_grad()"
        )
    dead = sorted(module for module, alive in got.items() if not alive)
    if dead:
        shown = ", ".join(dead[:6]) + (f" and {len(dead) - 6} more" if len(dead) > 6 else "")
        message = (
            f"{len(dead)} adapted modules do not take part in the loss: {shown}. Leave them out "
            "(target_modules or exclude_modules of the LoraConfig; default_lora_config(model, vision=True) knows them)"
        )
        if strict:
            raise ValueError(f"{message}, or set ddp_find_unused_parameters=True")
        logger.warning("%s.", message)
    return dead


def quantized_loading(bits: int = 4) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load a base model quantized by bitsandbytes, for QLoRA (arXiv:2305.14314).

    Four bits: NormalFloat with double quantization; computed in bfloat16, or float16 on GPUs without it. Each process
    puts the whole model on its own GPU, as DistributedDataParallel wants. `add_peft`, and so
    `ChartQATrainer(peft_config=...)`, freezes the base and keeps what is not quantized (norms, embeddings, lm_head) in
    float32; `default_lora_config` finds the quantized layers as it finds plain ones. Gradient checkpointing is the
    trainer's argument `activation_checkpointing`.

    Args:
        bits: 4 or 8.

    Raises:
        ValueError: `bits` is neither.
        ImportError: bitsandbytes is not installed.
        RuntimeError: there is no CUDA GPU.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits must be 4 or 8, got {bits!r}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            f"loading a model in {bits} bits needs bitsandbytes: pip install bitsandbytes, or leave the option out"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"loading a model in {bits} bits needs a CUDA GPU and torch sees none: run on one, or leave the "
            "option out and train plain LoRA"
        )
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "dtype": dtype, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


# ------------------------------------------------------------------ which layers
def _block_linears(model: nn.Module, vision: bool) -> list[str]:
    """Full names of the linear layers in the transformer blocks of the text side, and of the vision side if wanted."""
    towers = _vision_towers(model)
    text = _text_root(model)
    names = [name for name in _in_blocks(model, text) if not any(_inside(name, tower) for tower in towers)]
    if not names:
        raise ValueError(
            f"found no transformer blocks with linear layers in the text side of {type(model).__name__}: name the "
            'layers to adapt, target_modules=[...] or "all-linear"'
        )
    if vision:
        seen = [name for tower in towers for name in _in_blocks(model, tower, _states_read(model))]
        if not seen:
            raise ValueError(
                f"found no vision model with transformer blocks in {type(model).__name__}: name the layers to adapt, "
                'target_modules=[...] or "all-linear"'
            )
        names = [*names, *seen]
    return names


def _text_root(model: nn.Module) -> str:
    """The smallest model that holds the input embeddings: the language model, without vision and projector."""
    embeddings = model.get_input_embeddings()
    path = next(name for name, module in model.named_modules() if module is embeddings)
    holders = [name for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
    return max((name for name in holders if _inside(path, name)), key=len)


def _vision_towers(model: nn.Module) -> list[str]:
    """The vision model where transformers knows it, otherwise every outermost model that takes images alone."""
    names = {id(module): name for name, module in model.named_modules()}
    tower = model.get_encoder(modality="image")
    if tower is not model:
        return [names[id(tower)]]
    found: list[str] = []
    for name, module in model.named_modules():
        alone = isinstance(module, PreTrainedModel) and tuple(module.input_modalities) == ("image",)
        if alone and not any(_inside(name, outer) for outer in found):
            found.append(name)
    return found


def _in_blocks(model: nn.Module, root: str, states: Sequence[int] = ()) -> Iterator[str]:
    """Linear layers below `root` in stacks of blocks with attention: not pooler, head, embedding or patch merger.

    Args:
        states: the hidden states that are read: blocks after the last of them are not used. Number 0 is the input of
            the first block, and -1 the output of the last one. Empty: all blocks are used.
    """
    stacks: list[tuple[str, int]] = []
    for name, module in model.get_submodule(root).named_modules(prefix=root):
        outer = next((stack for stack in stacks if _inside(name, stack[0])), None)
        if outer is None:
            attends = any("att" in inner.lower() for inner, _ in module.named_modules())
            if isinstance(module, nn.ModuleList) and attends:
                size = len(module)
                stacks.append((name, max((i if i >= 0 else size + 1 + i for i in states), default=size)))
        elif isinstance(module, (nn.Linear, Conv1D)) and int(name[len(outer[0]) + 1 :].split(".")[0]) < outer[1]:
            yield name


def _states_read(model: nn.Module) -> list[int]:
    """The hidden states of the vision model that the text side reads, where the config names them."""
    config = model.config
    states = getattr(config, "vision_feature_layer", getattr(config, "vision_feature_layers", None))
    return [] if states is None else [states] if isinstance(states, int) else list(states)


def _as_pattern(model: nn.Module, names: Sequence[str]) -> str | list[str]:
    r"""A regular expression of `names` and no other module, like `layers\.\d+\.(attn\.(q|v)|mlp\.(fc1|fc2))`."""
    stacks: dict[str, set[int]] = {}
    layers: dict[str, dict[str, list[str]]] = {}
    for name in names:
        stack, number, inner = re.fullmatch(r"(.*?)\.(\d+)\.(.*)", name).groups()
        stacks.setdefault(stack, set()).add(int(number))
        *parents, leaf = (r"\d+" if part.isdigit() else re.escape(part) for part in inner.split("."))
        leaves = layers.setdefault(stack, {}).setdefault(r"\.".join(parents), [])
        leaves += [leaf] if leaf not in leaves else []
    parts = []
    for stack, numbers in stacks.items():
        every = len(numbers) == len(model.get_submodule(stack))
        number = r"\d+" if every else f"({'|'.join(map(str, sorted(numbers)))})"
        inner = []
        for parent, leaves in layers[stack].items():
            choice = leaves[0] if len(leaves) == 1 else f"({'|'.join(leaves)})"
            inner += [rf"{parent}\.{choice}"] if parent else leaves
        parts.append(rf"{re.escape(stack)}\.{number}\.({'|'.join(inner)})")
    pattern = "|".join(parts)
    matched = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    return pattern if sorted(matched) == sorted(names) else list(names)


def _inside(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}.")


def _module_name(parameter: str) -> str:
    """`model.layers.0.q_proj` of `base_model.model.model.layers.0.q_proj.lora_A.default.weight`."""
    name = re.sub(r"^(module\.)?base_model\.model\.", "", parameter)
    return re.sub(r"\.(lora_\w+|token_adapter|modules_to_save)\..*$", "", name)


# ------------------------------------------------------------------ new tokens
def _token_ids(model: nn.Module, tokens: Sequence[int | str], processor: Any) -> list[int]:
    if isinstance(tokens, str):
        raise ValueError(f"new_tokens must be a list, got the string {tokens!r}: write [{tokens!r}]")
    vocabulary: dict[str, int] = {}
    if any(isinstance(token, str) for token in tokens):
        if processor is None:
            raise ValueError("new_tokens has names: pass processor=..., or the ids that add_tokens returned")
        vocabulary = getattr(processor, "tokenizer", processor).get_vocab()
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
    """Which rows of which layer to train: of the input embeddings, and of the output ones where they are separate."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    rows = {names[id(inputs)]: ids}
    # PEFT's layer of trainable rows drops a bias: such a head keeps the rows that it has.
    if outputs is not None and outputs.weight is not inputs.weight and outputs.bias is None:
        rows[names[id(outputs)]] = list(ids)
    return rows
