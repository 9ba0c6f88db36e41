"""LoRA weights of a model from the Hub."""

from __future__ import annotations

import json

import huggingface_hub
import pytest
import torch

from chartqa_ft import (
    ChartQATrainer,
    default_lora_config,
    load_checkpoint,
)

from ..support.common import arguments
from ..support.families import build
from ..support.launching import (
    save_family,
)


@pytest.mark.filterwarnings("error:Could not find a config file")
def test_an_adapter_of_a_hub_model_names_the_hub_model_and_merges(tmp_path, monkeypatch):
    folder = save_family("llava", tmp_path / "abc")  # in the cache a folder has the commit's name
    asked = []

    def download(name, revision=None, **kwargs):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _, _ = load_checkpoint("someone/tiny", revision="v1")
    config = default_lora_config(model, revision="v1", init_lora_weights=False)
    trainer = ChartQATrainer(
        model,
        arguments(tmp_path / "out"),
        processing_class=build("llava")[1],
        peft_config=config,
    )
    trainer.save_model()
    saved = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("someone/tiny", "abc")
    trainer.save_merged(tmp_path / "merged")
    assert asked == [("someone/tiny", "v1"), ("someone/tiny", "abc")]
    origin = json.loads((tmp_path / "merged" / "chartqa_config.json").read_text())["merged"]
    assert origin == {"peft_type": "LORA", "base_model": "someone/tiny", "base_revision": "abc"}
    merged, _, adapter = load_checkpoint(tmp_path / "merged")
    assert adapter.prompt == trainer.adapter.prompt
    expected = trainer.model.merge_and_unload().state_dict()
    assert set(merged.state_dict()) == set(expected)
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
