"""The number of image tokens of a chart follows the settings exactly, also after saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import transformers as tf

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.image_cost import image_kwargs, image_settings, set_image_cost
from chartqa_ft.adapters.processors import load_processor
from chartqa_ft.models.chartqa_config import save_settings

from ..support.families import build, draw_bars

CHART = draw_bars((7, 2, 1, 6), (64, 48))  # width x height; a tile or a fixed tower is 32 x 32, a patch 8 x 8
WIDE = draw_bars((7, 2, 1, 6), (1024, 256))


class Case(NamedTuple):
    family: str
    setting: dict[str, int]
    tokens: int
    """The expected cost of the chart with this setting, computed by hand."""


CASES = [
    # 256 pixels a token: 64 x 48 as it is, 32 x 16, 16 x 16
    Case("qwen2_5_vl", {"max_pixels": 3072}, 12),
    Case("qwen2_5_vl", {"max_pixels": 1024}, 2),
    Case("qwen3_vl", {"max_pixels": 256}, 1),
    # 4 tokens a tile, and an overview where there are several: 4 x 3 tiles, 2 x 2, one
    Case("idefics3", {"image_size": 128}, 4 * (4 * 3 + 1)),
    Case("idefics3", {"image_size": 32}, 4),
    Case("idefics3", {"max_tiles": 5}, 4 * (2 * 2 + 1)),
    Case("idefics3", {"max_tiles": 1}, 4),
    Case("smolvlm", {"image_size": 96}, 4 * (3 * 3 + 1)),
    Case("smolvlm", {"max_tiles": 0}, 4),
    Case("smolvlm", {"max_tiles": 1000}, 4 * (4 * 3 + 1)),  # the tokenizer has names for 4 x 4
    # the grid nearest to 4 : 3 with at most so many tiles: 4 x 3, 3 x 2, one
    Case("internvl", {"max_tiles": 12}, 4 * (4 * 3 + 1)),
    Case("internvl", {"max_tiles": 6}, 4 * (3 * 2 + 1)),
    Case("internvl", {"max_tiles": 1}, 4),
    # overview 4 x 4; then rows x columns without the padding, and a token at the end of each row
    Case("llava_next", {"max_tiles": 4}, 16 + 6 * 8 + 6),
    Case("llava_next", {"max_tiles": 3}, 16 + 4 * 6 + 4),
    Case("llava_next", {"max_tiles": 1}, 16 + 4 * 4 + 4),
    # a chart four times as wide as high: itself and its crops
    Case("gemma3", {"max_tiles": 8}, 4 * (1 + 4)),
    Case("gemma3", {"max_tiles": 3}, 4 * (1 + 3)),
    Case("gemma3", {"max_tiles": 1}, 4),
    # the largest grid in the chart's shape: 6 x 8, 3 x 4, 8 x 11
    Case("pix2struct", {"max_patches": 48}, 48),
    Case("pix2struct", {"max_patches": 12}, 12),
    Case("pix2struct", {"max_patches": 100}, 88),
]


def encode(family: str, processor: Any) -> Any:
    chart = WIDE if family == "gemma3" else CHART
    if family == "pix2struct":
        processor.image_processor.is_vqa = False  # a header would need a font
        return processor(images=chart, images_kwargs=image_kwargs(processor), return_tensors="pt")
    content = [{"type": "image"}, {"type": "text", "text": "How tall is the red bar?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(
        text=[text], images=[[chart]], images_kwargs=image_kwargs(processor), return_tensors="pt", padding=True
    )


def cost(family: str, model: Any, batch: Any) -> int:
    if family == "pix2struct":
        return int(batch["attention_mask"].sum())
    return int((batch["input_ids"] == model.config.image_token_id).sum())


@torch.no_grad()
def logits_of(family: str, model: Any, batch: Any) -> torch.Tensor:
    batch.pop("num_crops", None)
    start = {"decoder_input_ids": torch.tensor([[0]])} if family == "pix2struct" else {}
    return model(**batch, **start).logits


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.setting}")
def test_a_chart_costs_what_was_set_before_and_after_saving(case: Case, tmp_path: Path) -> None:
    model, processor = build(case.family)
    done = set_image_cost(model, processor, **case.setting)
    assert done
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again_model, again = type(model).from_pretrained(tmp_path).eval(), load_processor(tmp_path)
    for name, value in done.items():
        owner, attribute = name.split(".")
        loaded = getattr(again_model.config if owner == "config" else getattr(again, owner), attribute)
        assert loaded == value or {k: v for k, v in vars(loaded).items() if v is not None} == value
    batch, again_batch = encode(case.family, processor), encode(case.family, again)
    assert cost(case.family, model, batch) == case.tokens
    assert cost(case.family, model, again_batch) == case.tokens
    logits = logits_of(case.family, model, batch)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits_of(case.family, again_model, again_batch), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["unichart", "nougat"])
def test_the_canvas_of_donut_can_have_another_size(family: str, tmp_path: Path) -> None:
    model, processor = build(family)
    encoder = model.config.encoder
    unit = encoder.patch_size * 2 ** (len(encoder.depths) - 1) * encoder.window_size
    start = torch.tensor([[model.config.decoder_start_token_id]])

    @torch.no_grad()
    def run(model: Any, processor: Any) -> tuple[int, torch.Tensor]:
        pixels = processor.image_processor(CHART, return_tensors="pt").pixel_values
        out = model(pixel_values=pixels, decoder_input_ids=start)
        assert pixels.shape[-2:] == (model.config.encoder.image_size[0],) * 2
        return out.encoder_last_hidden_state.shape[1], out.logits

    for times in (1, 3):  # one window in the last stage takes its shift away: the larger canvas must have it again
        side = times * unit
        done = set_image_cost(model, processor, image_size=side)
        assert done == {
            "image_processor.size": {"height": side, "width": side},
            "config.encoder.image_size": [side, side],
        }
        tokens, logits = run(model, processor)
        assert tokens == (times * encoder.window_size) ** 2
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    again_tokens, again_logits = run(again, load_processor(tmp_path))
    assert again_tokens == tokens
    torch.testing.assert_close(again_logits, logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match=rf"image_size={2 * unit + 1} must be a multiple of {unit} .*: .* {2 * unit}$"
    ):
        set_image_cost(model, processor, image_size=2 * unit + 1)
    assert model.config.encoder.image_size == [3 * unit, 3 * unit]


def test_a_stage_that_lost_its_shift_gets_it_back() -> None:
    model, processor = build("unichart")
    blocks = [block for stage in model.encoder.encoder.layers for block in stage.blocks]
    window = model.config.encoder.window_size
    for block in blocks:
        block.shift_size, block.window_size = 0, 1
    unit = model.config.encoder.patch_size * 2 ** (len(model.config.encoder.depths) - 1) * window
    set_image_cost(model, processor, image_size=unit)
    shifts = [0 if n % 2 == 0 else window // 2 for depth in model.config.encoder.depths for n in range(depth)]
    assert [(block.shift_size, block.window_size) for block in blocks] == [(shift, window) for shift in shifts]


FIXED = ["trocr", "llava", "kosmos2", "paligemma", "florence2"]


@pytest.mark.parametrize("family", [*FIXED, "llava_next", "gemma3", "internvl"])
def test_a_tower_with_learned_positions_keeps_its_size(family: str) -> None:
    model, processor = build(family)
    before = processor.image_processor.to_dict()
    assert set_image_cost(model, processor, image_size=32) == {}
    with pytest.raises(ValueError, match=r"image_size=64 does not fit .* positions for 32 x 32 pixels") as error:
        set_image_cost(model, processor, image_size=64)
    assert ("max_tiles" in str(error.value)) == (family not in FIXED)
    assert model.config.model_type in str(error.value)
    assert processor.image_processor.to_dict() == before


OWN = {
    **dict.fromkeys(FIXED, ()),
    **dict.fromkeys(("unichart", "nougat"), ("image_size",)),
    **dict.fromkeys(("idefics3", "smolvlm"), ("image_size", "max_tiles")),
    **dict.fromkeys(("llava_next", "gemma3", "internvl"), ("max_tiles",)),
    **dict.fromkeys(("qwen2_5_vl", "qwen3_vl"), ("max_pixels",)),
    "pix2struct": ("max_patches",),
}


@pytest.mark.parametrize("family", OWN)
def test_what_does_not_apply_is_named_with_what_does(family: str) -> None:
    model, processor = build(family)
    before = processor.image_processor.to_dict()
    for name in {"max_pixels", "max_tiles", "max_patches"} - set(OWN[family]):
        with pytest.raises(ValueError, match=f"^{name}=7 does not apply to {model.config.model_type} ") as error:
            set_image_cost(model, processor, **{name: 7})
        expected = f"what applies is {' or '.join(OWN[family])}" if OWN[family] else "no such setting is known for it"
        assert str(error.value).endswith(expected)
    assert set_image_cost(model, processor) == {}
    assert processor.image_processor.to_dict() == before


@pytest.mark.parametrize("family", ["qwen2_5_vl", "pix2struct"])
def test_no_size_where_a_chart_has_none(family: str) -> None:
    with pytest.raises(ValueError, match=r"image_size=64 does not apply to .* what applies is max_p"):
        set_image_cost(*build(family), image_size=64)


@pytest.mark.parametrize(
    ("family", "setting", "message"),
    [
        ("qwen2_5_vl", {"max_pixels": 255}, "max_pixels=255 is less than the 256 pixels of one image token"),
        ("qwen2_5_vl", {"max_pixels": 0}, "max_pixels must be a positive whole number, got 0"),
        ("qwen2_5_vl", {"max_pixels": True}, "max_pixels must be a positive whole number, got True"),
        ("qwen2_5_vl", {"max_pixels": 1e6}, "max_pixels must be a positive whole number, got 1000000.0"),
        ("internvl", {"max_tiles": -1}, "max_tiles must be a positive whole number, got -1"),
        ("idefics3", {"image_size": 49}, r"image_size=49 must be a multiple of 32 .*: the nearest is 64"),
        ("idefics3", {"image_size": 10}, r"image_size=10 must be a multiple of 32 .*: the nearest is 32"),
        ("idefics3", {"image_size": 160}, r"5 x 5 tiles .* for 4 x 4 only: at most 128"),
        ("smolvlm", {"image_size": 64, "max_tiles": 4}, "image_size and max_tiles set the same thing for smolvlm"),
        ("pix2struct", {"max_patches": 257}, "max_patches=257: pix2struct .* positions for at most 256"),
    ],
)
def test_values_that_cannot_be(family: str, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_image_cost(*build(family), **setting)


def test_a_minimum_above_the_maximum_gives_way() -> None:
    model, processor = build("qwen2_5_vl")
    processor.image_processor.size = type(processor.image_processor.size)(shortest_edge=1025, longest_edge=4096)
    assert set_image_cost(model, processor, max_pixels=1025) == {
        "image_processor.size": {"shortest_edge": 1025, "longest_edge": 1025}
    }
    assert set_image_cost(model, processor, max_pixels=1024) == {
        "image_processor.size": {"shortest_edge": 256, "longest_edge": 1024}
    }
    assert cost("qwen2_5_vl", model, encode("qwen2_5_vl", processor)) == 2


@pytest.mark.parametrize("image_processor", [tf.PixtralImageProcessorPil, tf.Glm4vImageProcessorPil])
@pytest.mark.parametrize("setting", ["image_size", "max_pixels", "max_tiles", "max_patches"])
def test_an_image_processor_that_is_not_known_is_not_guessed_at(setting: str, image_processor: type) -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="mine", vision_config=SimpleNamespace(image_size=64)))
    processor = SimpleNamespace(image_processor=image_processor())
    before = processor.image_processor.to_dict()
    message = rf"{setting}=64 does not apply to mine \({image_processor.__name__}\): no such setting is known for it"
    with pytest.raises(ValueError, match=message):
        set_image_cost(model, processor, **{setting: 64})
    assert processor.image_processor.to_dict() == before


def test_an_unknown_family_is_set_by_its_image_processor() -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="mine"))
    processor = SimpleNamespace(image_processor=tf.GotOcr2ImageProcessorPil(crop_to_patches=True, min_patches=3))
    assert set_image_cost(model, processor, max_tiles=2) == {
        "image_processor.crop_to_patches": True,
        "image_processor.min_patches": 2,
        "image_processor.max_patches": 2,
    }


def test_what_the_processor_class_would_overrule() -> None:
    model, processor = build("gemma3")
    set_image_cost(model, processor, max_tiles=2)
    assert image_kwargs(processor) == {"do_pan_and_scan": True, "pan_and_scan_max_num_crops": 2}
    assert image_kwargs(build("pix2struct")[1]) == {"max_patches": 48}
    assert image_kwargs(build("internvl")[1]) == {"max_patches": 3}
    assert image_kwargs(build("unichart")[1]) == {}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unichart", {"size": {"height": 64, "width": 64}}),
        ("pix2struct", {"max_patches": 48, "patch_size": {"height": 16, "width": 16}}),
        ("qwen2_5_vl", {"patch_size": 8, "merge_size": 2, "size": {"longest_edge": 2304, "shortest_edge": 256}}),
    ],
)
def test_the_settings_of_images_are_there_to_be_read(name, settings, tmp_path):
    model, processor = build(name)
    assert image_settings(processor) == settings
    save_settings(adapter_for(model, processor), tmp_path)
    assert json.loads((tmp_path / "chartqa_config.json").read_text())["image"] == settings
