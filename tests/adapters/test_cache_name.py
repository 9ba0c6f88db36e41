"""Generation speaks of the key-value cache by the name that the installed transformers knows."""

from __future__ import annotations

import logging

import pytest
from packaging.version import Version
from transformers import __version__

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.cache_name import CACHE
from chartqa_ft.adapters.compat import legacy_beam_search
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.tiny import tiny_unichart

from ..support.families import records


def test_name_is_that_of_the_installed_version():
    name = "cache" if Version(__version__) >= Version("5.24") else "past_key_values"
    assert name == CACHE


@pytest.mark.parametrize("custom_generate", [None, legacy_beam_search])
def test_generation_logs_no_deprecation(monkeypatch, custom_generate):
    # Outputs log it once per process, and only through the logger of transformers.
    logger = logging.getLogger("transformers.utils.generic")
    logged: list[str] = []
    monkeypatch.setattr(logger, "warning_once", logged.append, raising=False)
    model, processor = tiny_unichart()
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter)(records(3))
    settings = {} if custom_generate is None else {"custom_generate": custom_generate}
    adapter.generate(model, batch, max_new_tokens=3, num_beams=2, **settings)
    assert logged == []
