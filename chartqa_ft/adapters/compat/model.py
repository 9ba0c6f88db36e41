"""Makes a loaded model train and generate as it did in transformers 4.28.1, and marks it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .marks import LEGACY_VERSION, MARK

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = (
    "decoder_start_token_id",
    "forced_eos_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def apply_legacy_model(model: PreTrainedModel) -> PreTrainedModel:
    """Give a ``VisionEncoderDecoderModel`` with a Donut encoder the drop path and generation settings of 4.28.1.

    Changes the model in place, and may be called again. Its config is marked, so that ``is_legacy`` tells the caller
    to pass ``custom_generate=legacy_beam_search`` to ``generate``, and ``needs_compat`` knows what is saved.

    Returns:
        The same model.

    Raises:
        ValueError: the encoder is no Donut encoder.
    """
    encoder = getattr(model.config, "encoder", None)
    if getattr(encoder, "model_type", None) != "donut-swin":
        raise ValueError(
            f"the numbers of transformers {LEGACY_VERSION} are known for Donut encoders only, and the encoder of this "
            f"{type(model).__name__} is {getattr(encoder, 'model_type', None)!r}: load it with compat=False"
        )
    _constant_drop_path(model)
    _complete_generation_config(model)
    setattr(model.config, MARK, LEGACY_VERSION)
    logger.warning(
        "%s was saved by transformers 4: tokens, pixels, drop path and beam scores are those of %s (not of the "
        "installed version; load_checkpoint(..., compat=False) switches this off)",
        model.name_or_path or type(model).__name__,
        LEGACY_VERSION,
    )
    return model


def unmark_legacy(model: PreTrainedModel, processor: Any = None) -> None:
    """Take the mark off a model, and a processor, that were loaded without their old numbers (``compat=False``).

    What is saved afterwards is a checkpoint of the installed version.
    """
    for marked in (model.config, getattr(processor, "image_processor", None)):
        if hasattr(marked, MARK):
            delattr(marked, MARK)


def _constant_drop_path(model: PreTrainedModel) -> None:
    """4.28.1 computes the ramp over the blocks and then gives every block the full rate."""
    from transformers.models.donut.modeling_donut_swin import DonutDropPath

    rate = model.config.encoder.drop_path_rate
    for stage in model.encoder.encoder.layers:
        for block in stage.blocks:
            if rate > 0.0:
                block.drop_path = DonutDropPath(rate).train(block.training)


def _complete_generation_config(model: PreTrainedModel) -> None:
    """4.28.1 reads the settings from config.json if generation_config.json is missing or was itself made from it."""
    generation = model.generation_config
    if not getattr(generation, "_from_model_config", False):
        return
    for name in SPECIAL_TOKENS:
        if getattr(generation, name) is None:
            values = (getattr(config, name, None) for config in (model.config, model.config.decoder))
            setattr(generation, name, next((value for value in values if value is not None), None))
    # From now on this object is the truth: what a user takes out of it stays out, also after saving.
    generation.update(_from_model_config=False)
