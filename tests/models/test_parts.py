"""The parts of models of several structures."""

from __future__ import annotations

import pytest

from chartqa_ft import default_lora_config
from chartqa_ft.models.lora import add_peft
from chartqa_ft.models.parts import check_parts, freeze_parts, model_parts

from ..support.families import build

# Modules, or parameters, that make up each part.
PARTS = {
    "unichart": {"vision": {"encoder"}, "language": {"decoder"}},
    "pix2struct": {"vision": {"encoder"}, "language": {"decoder"}},
    "llava_next": {
        "vision": {"model.vision_tower"},
        "projector": {"model.multi_modal_projector", "model.image_newline"},
        "language": {"model.language_model", "lm_head"},
    },
    "qwen3_vl": {
        "vision": {"model.visual.patch_embed", "model.visual.pos_embed", "model.visual.blocks"},
        "projector": {"model.visual.merger", "model.visual.deepstack_merger_list"},
        "language": {"model.language_model", "lm_head"},
    },
    "blip2": {
        "vision": {"vision_model"},
        "projector": {"query_tokens", "qformer", "language_projection"},
        "language": {"language_model"},
    },
    "t5gemma2": {
        "vision": {"model.encoder.vision_tower"},
        "projector": {"model.encoder.multi_modal_projector"},
        "language": {"model.encoder.text_model", "model.decoder", "lm_head"},
    },
}


def part_of_each(model) -> dict[str, str]:
    names = {id(weight): name for name, weight in model.named_parameters()}
    parts = model_parts(model)
    assert sum(map(len, parts.values())) == len(names)
    return {names[id(weight)]: part for part, weights in parts.items() for weight in weights}


@pytest.mark.parametrize("name", PARTS)
def test_every_parameter_is_in_the_part_where_it_belongs(name):
    model, _ = build(name)
    found = part_of_each(model)
    for part, roots in PARTS[name].items():
        names = {key for key in found if any(key == root or key.startswith(f"{root}.") for root in roots)}
        assert names == {key for key, other in found.items() if other == part}
    assert set(found.values()) == set(PARTS[name])


def test_lora_weights_belong_to_the_part_that_they_adapt():
    model, _ = build("qwen2_5_vl")
    peft = add_peft(model, default_lora_config(model, vision=True))
    lora = {key: part for key, part in part_of_each(peft).items() if "lora_" in key}
    assert all(("visual" in key) is (part == "vision") for key, part in lora.items())
    freeze_parts(peft, ["vision"])
    trained = {key for key, weight in peft.named_parameters() if weight.requires_grad}
    assert trained == {key for key, part in lora.items() if part == "language"}


def test_a_part_that_the_model_lacks_is_refused_with_those_that_it_has():
    model, _ = build("pix2struct")
    with pytest.raises(ValueError, match=r"freeze has 'projector', which Pix2Struct.* lacks: its parts are vision"):
        freeze_parts(model, ["vision", "projector"])
    assert all(weight.requires_grad for weight in model.encoder.layernorm.parameters())
    check_parts(model, ["language"], "freeze")
