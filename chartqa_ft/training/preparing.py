"""`prepare_model`: a model, or the name of one, becomes a model that can be trained and saved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import set_seed
from transformers.trainer_utils import number_of_arguments

from ..adapters import Adapter, adapter_for, base_model
from ..adapters.argument_checks import check_model
from ..adapters.registry import SETTINGS_KEY, check_adapter
from ..images.resizing import check_size
from ..models.activation_checkpointing import checkpoint_blocks
from ..models.load import load_checkpoint
from ..models.lora import add_peft
from ..models.parts import freeze_parts
from ..models.saving import check_saveable
from ..models.swin import chunk_swin_blocks
from .arguments import ChartQATrainingArguments
from .checks.model import check_training_model
from .copying import same_processor
from .saving import refuse_base_folder


def first_model(model_init: Callable[..., Any], args: ChartQATrainingArguments) -> nn.Module | str:
    """Return the model of `model_init` that a trainer has until it trains.

    Raises:
        ValueError: `model_init` needs more than one argument, the trial of a search, or returns nothing.
    """
    count = number_of_arguments(model_init)
    if count > 1:
        raise ValueError(f"model_init must take no argument, or one (the trial of a search), not {count}")
    set_seed(args.seed)
    model = model_init(None) if count else model_init()
    if model is None:
        raise ValueError("model_init returned None: return the model")
    return model


def prepare_model(
    model: nn.Module | str | Path,
    args: ChartQATrainingArguments,
    processor: Any,
    adapter: Adapter | None,
    peft_config: Any,
) -> tuple[nn.Module, Any, Adapter]:
    """Return model, processor and adapter of a trainer; what is missing is loaded or found.

    The adapter's settings go into the model's config, PEFT weights are added, and `args` decides about frozen parts,
    activation checkpointing and the chunked encoder. See `ChartQATrainer` for the arguments. `args` must be the
    trainer's own copy: an unset `ddp_find_unused_parameters` is chosen here.

    Raises:
        TypeError: the model or the adapter is something else.
        ValueError: a loaded model without its processor, an adapter of another processor or family, or a model that
            could not be saved, or a part to freeze that the model lacks.
    """
    if isinstance(model, (str, Path)):
        model, loaded_processor, loaded_adapter = load_checkpoint(model, trainable=True, token=args.hub_token)
        if peft_config is None and not hasattr(model, "peft_config"):
            model.float()  # in 16 bits most updates would be rounded away; mixed precision does the rest
        if processor is None and adapter is None:
            processor, adapter = loaded_processor, loaded_adapter
    check_model(model)
    if adapter is not None:
        check_adapter(adapter, model)
        if processor is not None and not same_processor(processor, adapter.processor):
            raise ValueError(
                "processing_class is not the processor of adapter: the one would be saved and the other used. Leave "
                "processing_class out, or create the adapter with it: adapter_for(model, processing_class)"
            )
        processor = adapter.processor
    if processor is None:
        raise ValueError(
            "a loaded model needs its processor: pass processing_class=AutoProcessor.from_pretrained(...)"
        )
    adapter = adapter_for(model, processor) if adapter is None else adapter
    check_size(getattr(adapter.processor, "image_processor", None))
    setattr(base_model(model).config, SETTINGS_KEY, adapter.settings())
    if peft_config is not None:
        set_seed(args.seed)  # the Trainer does so too late for weights that are drawn here
        model = add_peft(model, copy.deepcopy(peft_config))  # PEFT writes into it
    freeze_parts(model, args.freeze or ())
    check_training_model(model, args)
    check_saveable(model)
    refuse_base_folder(model, args.output_dir)
    adapter.attach(model)
    if args.device.type == "cpu":
        chunk_swin_blocks(base_model(model), args.chunk_encoder)
    if args.activation_checkpointing:
        checkpoint_blocks(base_model(model))
    if args.ddp_find_unused_parameters is None:
        # Upstream sets False with gradient checkpointing, for its reentrant kind: LLaVA would stop.
        args.ddp_find_unused_parameters = not (adapter.uses_all_parameters or hasattr(model, "peft_config"))
    return model, processor, adapter
