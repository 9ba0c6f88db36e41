"""Reproduces the numerics of transformers 4.28.1 for checkpoints of that time.

UniChart and the Donut family were trained with transformers 4, and UniChart's authors require exactly 4.28.1. On 5.x
the same files load, but tokens, pixels, beams and regularization differ silently. Corrected here, for these files
only:

=================  ====================================================  ==============================================
what               in 5.x                                                here, as in 4.28.1
=================  ====================================================  ==============================================
tokenizer          rebuilt; the lone ``▁`` before a marker is lost       tokenizer.json verbatim
decoded spaces     an absent ``clean_up_tokenization_spaces`` means no   means yes
old JSON           ``DonutFeatureExtractor`` raises                      read with 4.28.1's defaults
thumbnail          the config's filter (bilinear)                        bicubic with ``reducing_gap=2.0``
random padding     removed                                               :func:`legacy_random_offsets`
drop path          ramps from 0 to the rate over the encoder's depth     the rate in every block
beam score         divided by answer + EOS                               by prompt + answer: :func:`legacy_beam_search`
generation         decoder_start_token_id ... of a stale file            filled in from config.json
=================  ====================================================  ==============================================

A checkpoint is recognized by :func:`needs_compat`. A saved one is marked (``chartqa_compat`` in config.json and
processor_config.json), so that it behaves the same after loading; plain transformers can load it too. Encoder, loss
and greedy search have not changed: training losses are bit-equal with ``attn_implementation="eager"`` and, on a CPU,
``chunk_encoder=False``.
"""

from __future__ import annotations

from .beam import legacy_beam_search
from .marks import LEGACY_VERSION, is_legacy, needs_compat
from .model import apply_legacy_model, unmark_legacy
from .processor import LegacyDonutImageProcessor, legacy_random_offsets, load_legacy_processor

__all__ = [
    "LEGACY_VERSION",
    "LegacyDonutImageProcessor",
    "apply_legacy_model",
    "is_legacy",
    "legacy_beam_search",
    "legacy_random_offsets",
    "load_legacy_processor",
    "needs_compat",
    "unmark_legacy",
]
