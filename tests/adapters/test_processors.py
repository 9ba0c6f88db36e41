"""Processors without torchvision, and saving and loading of each tiny family."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText
from transformers.utils import is_torchvision_available

from chartqa_ft.adapters.image_only import class_attributes
from chartqa_ft.adapters.processors import VideoSettings, image_only, load_processor

from ..support.families import FAMILIES, KINDS, build, records

torch.set_num_threads(1)

VIDEO_FAMILIES = {
    "qwen2_5_vl": "Qwen2VLVideoProcessor",
    "qwen3_vl": "Qwen3VLVideoProcessor",
    "smolvlm": "SmolVLMVideoProcessor",
    "internvl": "InternVLVideoProcessor",
}


def prompts(name: str, model: Any, processor: Any, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The processor's own batch of the prompts, enough for a forward pass."""
    images = [[row["image"]] for row in rows]
    questions = [row["question"] for row in rows]
    if KINDS[name] == "decoder-prompt":
        batch = processor.image_processor([row["image"] for row in rows], return_tensors="pt")
        ids = processor.tokenizer(questions, padding=True, return_tensors="pt")["input_ids"]
        return {"pixel_values": batch["pixel_values"], "decoder_input_ids": ids}
    if name == "pix2struct":
        processor.image_processor.is_vqa = False  # the header needs a font, and has its own tests
        batch = processor(images=[row["image"] for row in rows], return_tensors="pt", max_patches=48)
        start = torch.zeros((len(rows), 3), dtype=torch.long)
        return {**batch, "decoder_input_ids": start}
    if name == "kosmos2":
        images, extra = [row["image"] for row in rows], {"num_image_tokens": model.config.latent_query_num}
    else:
        extra = {}
    if name == "florence2":
        images = [row["image"] for row in rows]
    if name == "paligemma":
        questions = ["<image>" + question for question in questions]
    if processor.chat_template:
        parts = [[{"type": "image"}, {"type": "text", "text": question}] for question in questions]
        chats = [[{"role": "user", "content": part}] for part in parts]
        questions = processor.apply_chat_template(chats, add_generation_prompt=True)
    # PaliGemma's processor makes labels by a deprecated way when it is asked for torch tensors.
    batch = processor(images=images, text=questions, padding=True, return_tensors="np", **extra)
    batch = {key: torch.as_tensor(value) for key, value in batch.items() if key != "labels"}
    if name == "florence2":
        batch["decoder_input_ids"] = torch.full((len(rows), 2), model.config.text_config.decoder_start_token_id)
    return batch


def image_only_from(folder: Path) -> Any:
    """The processor that `load_processor` returns without torchvision, whether or not it is installed."""
    name = json.loads((folder / "tokenizer_config.json").read_text())["processor_class"]
    return image_only(getattr(transformers, name)).from_pretrained(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_survives_saving_and_loading(name, tmp_path):
    model, processor = build(name)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, loaded = AutoModelForImageTextToText.from_pretrained(tmp_path), load_processor(tmp_path)
    assert type(again) is type(model)
    assert type(loaded).__name__ == type(processor).__name__
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    text = "Größe 7 %,  図表\n<x> " + records(2)[1]["question"]
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert loaded.tokenizer.decode(ids) == text
    batch, reloaded = (prompts(name, model, each, records(8)) for each in (processor, loaded))
    # Pillow and torchvision round differently while they resize: up to 3 of 255 levels, seen with bicubic resizing.
    rounding = 0.05 if is_torchvision_available() else 0.0
    for key in batch.keys() | reloaded.keys():
        assert torch.allclose(batch[key].double(), reloaded[key].double(), rtol=0.0, atol=rounding), key
    with torch.no_grad():
        before, after = model(**batch).logits, again.eval()(**batch).logits
    assert torch.equal(before, after)
    # Other charts, other logits; and no logit so large that the softmax has one winner.
    assert (before[0, -1] - before[2, -1]).abs().max() > 1e-3
    assert 0.02 < before.std() < 20


@pytest.mark.parametrize("name", FAMILIES)
def test_building_again_gives_the_same_model(name):
    state = torch.random.get_rng_state()
    (first, _), (second, _) = build(name), build(name)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        next(first.parameters()).add_(1.0)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), build(name)[0].parameters(), strict=True))


def test_records_differ_where_tests_need_it():
    rows = records(16)
    assert rows[0]["question"] == rows[2]["question"]
    assert rows[0]["answer"] == "7"
    assert rows[1]["answer"] == "6.2 %"
    assert rows[2]["answer"] == "3"
    assert rows[3]["answer"] == "Yes, it is"
    assert rows[0]["chart_id"] == rows[1]["chart_id"] != rows[2]["chart_id"]
    assert rows[0]["image"].tobytes() == rows[1]["image"].tobytes() != rows[2]["image"].tobytes()
    assert len({(row["chart_id"], row["question"]) for row in rows}) == 16
    assert len({row["image"].size for row in rows}) == 6


@pytest.mark.parametrize("name", FAMILIES)
def test_processors_go_to_worker_processes(name):
    _, processor = build(name)
    for other in (pickle.loads(pickle.dumps(processor)), copy.deepcopy(processor)):
        assert type(other) is type(processor)
        assert other.to_dict() == processor.to_dict()


# ---------------------------------------------------------------------------------------------------- image only
@pytest.mark.parametrize(("name", "video"), VIDEO_FAMILIES.items())
def test_what_was_built_names_the_upstream_classes(name, video, tmp_path):
    _, processor = build(name)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["processor_class"] == type(processor).__name__ == type(processor).__mro__[2].__name__
    assert saved["video_processor"] == {"video_processor_type": video}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["processor_class"] == saved["processor_class"]


@pytest.mark.parametrize("name", VIDEO_FAMILIES)
def test_video_settings_stay_as_they_were_loaded(name, tmp_path):
    settings = {"video_processor_type": "X", "fps": 2.5, "size": {"longest_edge": 77}, "image_mean": [0.1, 0.2, 0.3]}
    _, processor = build(name)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "video_processor": settings}))
    loaded = image_only_from(tmp_path)
    assert loaded.video_processor.fps == 2.5
    loaded.video_processor.to_dict()["size"]["longest_edge"] = 0
    loaded.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "processor_config.json").read_text())["video_processor"] == settings


def test_video_settings_from_a_file_of_their_own_and_from_one_shared_with_images(tmp_path):
    _, processor = build("qwen2_5_vl")
    processor.save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    image = json.loads(path.read_text())["image_processor"]
    path.unlink()
    shared = {**image, "processor_class": "Qwen2_5_VLProcessor", "min_pixels": 256, "max_pixels": 2304}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shared))
    loaded = image_only_from(tmp_path).video_processor.to_dict()
    assert loaded["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert loaded["max_pixels"] == 2304
    assert not {"image_processor_type", "processor_class"} & set(loaded)
    own = {"video_processor_type": "Qwen2VLVideoProcessor", "max_frames": 3}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(own))
    assert image_only_from(tmp_path).video_processor.to_dict() == own


def test_arguments_reach_the_image_processor(tmp_path):
    _, processor = build("qwen3_vl")
    processor.save_pretrained(tmp_path)
    size = {"shortest_edge": 256, "longest_edge": 1024}
    assert load_processor(tmp_path, size=size).image_processor.size == size


def test_videos_are_refused():
    _, processor = build("qwen2_5_vl")
    with pytest.raises(ImportError, match="pip install torchvision"):
        processor(text="<|video_pad|>", videos=[torch.zeros(2, 3, 16, 16)])
    with pytest.raises(AttributeError, match="images only"):
        VideoSettings().merge_size  # noqa: B018


def test_image_only_of_other_classes():
    assert image_only(transformers.LlavaProcessor) is transformers.LlavaProcessor
    made = image_only(transformers.Qwen2VLProcessor)
    assert image_only(made) is made is image_only(transformers.Qwen2VLProcessor)
    with pytest.raises(ValueError, match="no images"):
        image_only(transformers.InstructBlipVideoProcessor)


def test_a_video_processor_between_the_others(tmp_path):
    # MiniCPM has its video processor second: the parts must not change places.
    _, processor = build("qwen2_5_vl")
    made = image_only(transformers.MiniCPMV4_6Processor)
    assert made.get_attributes() == ["image_processor", "video_processor", "tokenizer"]
    processor.save_pretrained(tmp_path)
    parts = made._get_arguments_from_pretrained(tmp_path, {})
    assert [type(part).__name__.removesuffix("Pil") for part in parts[:2]] == [
        "Qwen2VLImageProcessor",
        "VideoSettings",
    ]
    assert parts[2].get_vocab() == processor.tokenizer.get_vocab()


# ---------------------------------------------------------------------------------------------------- failures
def test_failures_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_processor(tmp_path / "nowhere")
    with pytest.raises((OSError, ValueError), match=r"save the base model's processor|name a processor_class"):
        load_processor(tmp_path)
    _, processor = build("llava")
    processor.tokenizer.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="no processor of images and text"):
        load_processor(tmp_path / "text")
    _, processor = build("qwen3_vl")
    processor.save_pretrained(tmp_path / "torn")
    (tmp_path / "torn" / "processor_config.json").write_text("{")
    with pytest.raises((OSError, ValueError), match="torn"):
        load_processor(tmp_path / "torn")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    def fails(*args: Any, **kwargs: Any) -> None:
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr("chartqa_ft.adapters.processors.AutoProcessor.from_pretrained", fails)
    with pytest.raises(ImportError, match="pip install einops") as caught:
        load_processor(tmp_path)
    assert caught.value.name == "einops"


def test_upstream_stays_as_it_is():
    from transformers.models.smolvlm import processing_smolvlm as upstream

    before = dict(vars(upstream))
    image_only.cache_clear()
    made = image_only(transformers.SmolVLMProcessor)
    assert made.__init__.__globals__["num2words"] is not None
    assert dict(vars(upstream)) == before


@pytest.mark.parametrize(
    "error",
    [
        ImportError("PixtralProcessor requires the Torchvision library but it was not found\nin your environment."),
        ValueError(
            "Could not load any image processor class for x. The model configuration resolves to the following image "
            "processor classes: torchvision: Lfm2VlImageProcessor. None of these classes could be imported. Missing "
            "optional dependencies: torchvision."
        ),
        ModuleNotFoundError("No module named 'torchvision'", name="torchvision"),
        RuntimeError("Torchvision is needed by this image processor"),
    ],
)
def test_a_processor_that_needs_torchvision_for_images_is_refused_in_one_line(error, tmp_path, monkeypatch):
    def from_pretrained(*args, **kwargs):
        raise error

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", from_pretrained)
    monkeypatch.setattr("chartqa_ft.adapters.processors.is_torchvision_available", lambda: False)
    with pytest.raises(ImportError) as refused:
        load_processor(tmp_path)
    assert str(refused.value) == (
        f"the processor in {tmp_path} needs torchvision even for images: pip install torchvision, in the release for "
        f"torch {torch.__version__} (with --no-deps, so that pip keeps this torch)"
    )
    assert refused.value.name == "torchvision"
    monkeypatch.setattr("chartqa_ft.adapters.processors.is_torchvision_available", lambda: True)
    with pytest.raises((ImportError, ValueError), match="cannot be loaded"):  # then something else is wrong
        load_processor(tmp_path)


KNOWN = [name for name in ("lfm2_vl", "cohere2_vision", "llama4", "molmo2", "mistral3") if name in CONFIG_MAPPING]


@pytest.mark.parametrize("name", KNOWN)
def test_families_whose_images_need_torchvision_say_so(name, tmp_path):
    """The real classes, where torchvision is not installed; where it is, something else is missing here."""
    stem = {"lfm2_vl": "Lfm2Vl", "cohere2_vision": "Cohere2Vision", "llama4": "Llama4", "molmo2": "Molmo2"}.get(name)
    stem = stem or "Pixtral"
    build("llava")[1].tokenizer.save_pretrained(tmp_path)
    named = {"processor_class": f"{stem}Processor", "image_processor_type": f"{stem}ImageProcessor"}
    for file, content in (
        ("config.json", {"model_type": name}),
        ("processor_config.json", {"processor_class": named["processor_class"]}),
        ("preprocessor_config.json", named),
    ):
        (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises((ImportError, ValueError)) as refused:
        load_processor(tmp_path)
    assert ("needs torchvision even for images" in str(refused.value)) is not is_torchvision_available()


@pytest.mark.parametrize("name", ["MiniCPMV4_6", "SmolVLM", "Qwen3VL", "Glm4v"])
def test_attributes_that_processors_read_of_their_video_processor_have_the_defaults_of_its_class(name):
    upstream = getattr(transformers, f"{name}Processor")
    wanted = class_attributes(upstream)
    assert wanted["do_resize"] is True
    assert ("slice_mode" in wanted) is (name == "MiniCPMV4_6")
    settings = VideoSettings({"do_resize": False}, wanted)
    assert (settings.do_resize, settings.do_rescale) == (False, True)
    assert settings.to_dict() == {"do_resize": False}
    assert copy.deepcopy(pickle.loads(pickle.dumps(settings))).do_rescale is True
    with pytest.raises(AttributeError, match="videos need torchvision"):
        _ = settings.unheard_of
