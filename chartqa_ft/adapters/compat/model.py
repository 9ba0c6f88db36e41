"""Drop path and generation settings of transformers 4.28.1 for a loaded model, and its mark."""

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
    """Set the drop path and generation settings of 4.28.1 in a ``VisionEncoderDecoderModel`` with a Donut encoder.

    Modifies the model in place, and may be called again. The config is marked, so that ``is_legacy`` tells when to
    pass ``custom_generate=legacy_beam_search`` to ``generate``, and ``needs_compat`` recognizes a saved checkpoint.

    Returns:
        The same model.

    Raises:
        ValueError: The encoder is not a Donut encoder.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> from chartqa_ft.adapters import compat
        >>> model, processor = tiny_unichart("test")
        >>> compat.is_legacy(apply_legacy_model(model))
        True
        >>> unmark_legacy(model)
        >>> compat.is_legacy(model)
        False
    """
    encoder = getattr(model.config, "encoder", None)
    if getattr(encoder, "model_type", None) != "donut-swin":
        raise ValueError(
            f"the numerics of transformers {LEGACY_VERSION} are known for Donut encoders only, and the encoder of "
            f"this {type(model).__name__} is {getattr(encoder, 'model_type', None)!r}: load it with compat=False"
        )
    _constant_drop_path(model)
    _complete_generation_config(model)
    setattr(model.config, MARK, LEGACY_VERSION)
    logger.warning(
        "%s was saved by transformers 4: tokens, pixels, drop path and beam scores are those of %s, not of the "
        "installed version; load_checkpoint(..., compat=False) disables this",
        model.name_or_path or type(model).__name__,
        LEGACY_VERSION,
    )
    return model


def unmark_legacy(model: PreTrainedModel, processor: Any = None) -> None:
    """Remove the mark from a model, and a processor, that were loaded without the old numerics (``compat=False``).

    They are then saved as a checkpoint of the installed version.
    """
    for marked in (model.config, getattr(processor, "image_processor", None)):
        if hasattr(marked, MARK):
            delattr(marked, MARK)


def _constant_drop_path(model: PreTrainedModel) -> None:
    """Set the full rate in each block, as 4.28.1 does although it computes a ramp over the blocks."""
    from transformers.models.donut.modeling_donut_swin import DonutDropPath

    rate = model.config.encoder.drop_path_rate
    for stage in model.encoder.encoder.layers:
        for block in stage.blocks:
            if rate > 0.0:
                block.drop_path = DonutDropPath(rate).train(block.training)


def _complete_generation_config(model: PreTrainedModel) -> None:
    """Fill in settings from config.json, as 4.28.1 does if generation_config.json is missing or derived from it."""
    generation = model.generation_config
    if not getattr(generation, "_from_model_config", False):
        return
    for name in SPECIAL_TOKENS:
        if getattr(generation, name) is None:
            values = (getattr(config, name, None) for config in (model.config, model.config.decoder))
            setattr(generation, name, next((value for value in values if value is not None), None))
    # From now on this object is authoritative: a setting that a user removes stays removed, also after saving.
    generation.update(_from_model_config=False)
