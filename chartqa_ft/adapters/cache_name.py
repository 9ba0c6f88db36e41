"""The name of the key-value cache in the installed version of transformers."""

from __future__ import annotations

import inspect

from transformers import GenerationMixin

CACHE = (
    "cache"
    if "cache" in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    else "past_key_values"
)
"""Name of the key-value cache as an argument of `generate` and `forward`, and as a field of a model's output.

transformers 5.24 renamed `past_key_values` to `cache` and warns about the old name; earlier versions know only the old
one.
"""
