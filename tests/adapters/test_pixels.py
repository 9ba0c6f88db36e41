"""Charts as bytes until they are on the device: the same floats, losses and answers, bit for bit."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DonutImageProcessorPil

from chartqa_ft import load_checkpoint
from chartqa_ft.adapters import DecoderPrompt, adapter_for
from chartqa_ft.adapters.image_cost import set_image_cost
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.rows import ROW_KEY, KeyedRows, RowKey
from chartqa_ft.images.opening import open_image
from chartqa_ft.images.resizing import take_apart
from chartqa_ft.images.rgb import to_rgb
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import arguments, drawn_charts, tiny, trainer

GOLDEN = Path(__file__).parents[1] / "golden"


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def odd_images() -> dict[str, bytes]:
    """Image files of all kinds that charts have, whose conversion to RGB is not trivial."""
    palette = noise(40, 30, "L").convert("P")
    frames = [noise(20, 30, seed=1), noise(20, 30, seed=2)]
    return {
        "rgb": encoded(noise(64, 48), "PNG"),
        "rgba": encoded(noise(48, 64, "RGBA"), "PNG"),
        "grey": encoded(noise(33, 71, "L"), "PNG"),
        "grey and alpha": encoded(noise(33, 71, "LA"), "PNG"),
        "palette": encoded(palette, "PNG"),
        "palette with transparency": encoded(palette, "PNG", transparency=7),
        "deep grey": encoded(Image.fromarray((np.arange(600).reshape(20, 30) * 100).astype(np.uint16)), "PNG"),
        "one bit": encoded(noise(30, 20, "1"), "PNG"),
        "turned photo": encoded(noise(30, 50), "JPEG", exif=turned(6)),
        "turned and mirrored": encoded(noise(50, 30, "RGBA"), "PNG", exif=turned(7)),
        "CMYK": encoded(noise(30, 50, "CMYK"), "JPEG"),
        "animation": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "WebP": encoded(noise(41, 17, "RGBA"), "WEBP", lossless=True),
        "TIFF": encoded(noise(17, 41), "TIFF"),
        "one pixel": encoded(noise(1, 1), "PNG"),
    }


def records(images: list[Any]) -> list[dict[str, Any]]:
    return [{"image": image, "question": "What?", "answer": "1", "chart_id": str(n)} for n, image in enumerate(images)]


def raw_and_plain(adapter, rows, **settings) -> tuple[dict[str, Any], dict[str, Any]]:
    return tuple(ChartQACollator(adapter, raw_charts=raw, **settings)(rows) for raw in (True, False))


PROCESSORS = {
    "tiny": {},
    "ImageNet": {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "not normalized": {"do_normalize": False},
    "wide canvas": {"size": {"height": 64, "width": 160}},
    "rotated": {"size": {"height": 160, "width": 64}, "do_align_long_axis": True},
    "another scale": {"rescale_factor": 1 / 127.5, "resample": 3},
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("padding", [None, "seeded"])
def test_bytes_become_the_floats_of_the_processor(name, padding):
    model, processor = tiny()
    settings = {"size": {"height": 96, "width": 96}, "image_mean": [1.0] * 3, "image_std": [0.5] * 3}
    processor = type(processor)(DonutImageProcessorPil(**{**settings, **PROCESSORS[name]}), processor.tokenizer)
    adapter = adapter_for(model, processor)
    rows = records([to_rgb(Image.open(io.BytesIO(content))) for content in odd_images().values()])
    rows = [{**row, ROW_KEY: RowKey(number, 1, True)} for number, row in enumerate(rows)]
    raw, plain = raw_and_plain(adapter, rows, random_padding=padding)
    assert raw["pixel_values"].dtype == torch.uint8
    assert raw["pixel_values"].is_contiguous()
    assert plain["pixel_values"].dtype == torch.float32
    floats = adapter.to_float(raw["pixel_values"])
    assert floats.is_contiguous()
    assert torch.equal(floats, plain["pixel_values"])
    assert adapter.to_float(floats) is floats
    for key in plain.keys() - {"pixel_values"}:
        assert torch.equal(raw[key], plain[key])
    assert next(iter(raw)) == "decoder_input_ids"


@pytest.mark.parametrize("name", ["modern", "ancient"])
def test_old_checkpoints_keep_their_pixels(name):
    _, _, adapter = load_checkpoint(GOLDEN / name / "checkpoint")
    wanted = np.load(GOLDEN / name / "golden.npz")
    examples = json.loads((GOLDEN / name / "golden.json").read_text(encoding="utf-8"))["examples"]
    rows = records([GOLDEN / name / "images" / example["imgname"] for example in examples])
    np.random.seed(0)
    for padding, key in ((None, "pixel_values"), ("global", "train_pixel_values_seed0")):
        collate = ChartQACollator(adapter, raw_charts=True, random_padding=padding, group_by_chart=False)
        pixels = collate(rows)["pixel_values"]
        assert pixels.dtype == torch.uint8
        for number, floats in enumerate(adapter.to_float(pixels).numpy()):
            np.testing.assert_array_equal(floats, wanted[f"{key}_{number}"])


def test_settings_that_change_later_are_followed():
    model, processor = tiny()
    processor = copy.deepcopy(processor)  # other tests have the same
    adapter = adapter_for(model, processor)
    rows = records([noise(80, 60)])
    collate = ChartQACollator(adapter, raw_charts=True, random_padding="seeded")
    assert collate(rows)["pixel_values"].shape == (1, 3, 96, 96)
    set_image_cost(model, processor, image_size=192)
    processor.image_processor.image_mean = [0.25, 0.5, 0.75]
    rows[0][ROW_KEY] = RowKey(0, 0, True)
    raw, plain = raw_and_plain(adapter, rows, random_padding="seeded")
    assert raw["pixel_values"].shape == (1, 3, 192, 192)
    assert torch.equal(adapter.to_float(raw["pixel_values"]), plain["pixel_values"])
    processor.image_processor.do_rescale = processor.image_processor.do_normalize = False  # no floats any more
    assert not adapter.makes_raw_charts
    assert torch.equal(
        collate(rows)["pixel_values"], adapter.chart_tensors(rows, offsets=[collate.draw(rows[0])])["pixel_values"]
    )


class Restless(DonutImageProcessorPil):
    """An image processor defined by a user."""


class Stretching(DecoderPrompt):
    """A family defined by a user that processes charts differently."""

    def image(self, example):
        return super().image(example).resize((50, 50))


class PerImage(DonutImageProcessorPil):
    def normalize(self, image, mean, std, **kwargs):
        return super().normalize(image, image.mean(), std, **kwargs)


def test_what_does_not_come_apart_stays_whole(tmp_path, caplog):
    model, processor = tiny()
    size = {"height": 96, "width": 96}
    PerImage.__module__ = "chartqa_ft.perhaps"
    with caplog.at_level("DEBUG", logger="chartqa_ft"):
        assert take_apart(PerImage(size=size)) is None
    assert re.search(r"PerImage is used as a whole: .* 53 x 37 pixels", caplog.text)
    assert take_apart(DonutImageProcessorPil(size=size, do_rescale=False, do_normalize=False)) is None
    assert take_apart(Restless(size=size)) is None
    other = type(processor)(Restless(size=size), processor.tokenizer)
    for adapter in (Stretching(model, processor), adapter_for(model, other)):
        assert not adapter.makes_raw_charts
        with pytest.raises(ValueError, match="raw_charts=True needs an image processor that resizes, pads"):
            ChartQACollator(adapter, raw_charts=True)
        run = trainer(tmp_path, model=tiny()[0], adapter=adapter)
        assert next(iter(run.get_train_dataloader()))["pixel_values"].dtype == torch.float32
        with pytest.raises(ValueError, match="chart_cache='charts' would not be used"):
            trainer(tmp_path, model=tiny()[0], adapter=adapter, chart_cache="charts")


def test_a_loss_of_ones_own_gets_floats(tmp_path):
    class Own(ChartQATrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    model, processor = tiny()
    run = Own(model, arguments(tmp_path), train_dataset=drawn_charts(), processing_class=processor)
    assert next(iter(run.get_train_dataloader()))["pixel_values"].dtype == torch.float32


class Losses(ChartQATrainer):
    """The trainer with collators that convert decoded records to floats."""

    def _make_collators(self, *args):
        made = super()._make_collators(*args)
        for collator in made.values():
            collator.raw_charts, collator.chart_cache = False, None
        return made


def trained(folder, kind, records=None, **changes):
    model, processor = tiny()
    charts = drawn_charts() if records is None else records
    settings = {"max_steps": 3, "random_padding": True, "gradient_accumulation_steps": 2, **changes}
    run = kind(
        model, arguments(folder, **settings), train_dataset=charts, eval_dataset=charts, processing_class=processor
    )
    run.train()
    return run


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_training_has_the_same_losses_weights_and_answers(tmp_path, workers):
    raw = trained(
        tmp_path / "raw", ChartQATrainer, dataloader_num_workers=workers, chart_cache=str(tmp_path / "charts")
    )
    plain = trained(tmp_path / "plain", Losses)
    batch = next(iter(raw.get_eval_dataloader()))
    assert batch["pixel_values"].dtype == torch.uint8
    assert next(iter(plain.get_eval_dataloader()))["pixel_values"].dtype == torch.float32
    assert set(raw.get_train_dataloader().dataset.records[0]["image"]) == {"bytes", "path"}  # nothing is decoded twice
    losses = [[log["loss"] for log in run.state.log_history if "loss" in log] for run in (raw, plain)]
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]
    for ours, theirs in zip(raw.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    answers = [run.predict(drawn_charts()) for run in (raw, plain)]
    assert answers[0].predictions.tolist() == answers[1].predictions.tolist()
    assert answers[0].metrics["test_loss"] == answers[1].metrics["test_loss"]
    assert list((tmp_path / "charts").rglob("*"))


def test_a_model_in_sixteen_bits_gets_its_own_precision():
    model, processor = tiny()
    model = model.to(torch.bfloat16)
    adapter = adapter_for(model, processor)
    raw, plain = raw_and_plain(adapter, records([noise(70, 90), noise(90, 70)]))
    states = [adapter.encode_charts(model, batch).last_hidden_state for batch in (raw, plain)]
    assert states[0].dtype == torch.bfloat16
    assert torch.equal(*states)
    assert adapter.model_inputs(raw, encoder_outputs=states[0]).keys() == {"decoder_input_ids", "encoder_outputs"}


def test_an_adapter_taken_apart_can_be_pickled():
    model, processor = tiny()
    adapter = adapter_for(model, processor)
    rows = records([noise(70, 90)])
    pixels = ChartQACollator(adapter, raw_charts=True)(rows)["pixel_values"]
    again = pickle.loads(pickle.dumps(ChartQACollator(adapter, raw_charts=True)))
    assert torch.equal(again(rows)["pixel_values"], pixels)
    assert torch.equal(again.adapter.to_float(pixels), adapter.to_float(pixels))


# ---------------------------------------------------------------------- images as they are stored
def stored(images: list[Any], **features: Any) -> datasets.Dataset:
    table = datasets.Dataset.from_list(records(images))
    return table.cast_column("image", datasets.Image(**features))


def keys(number: int) -> list[RowKey]:
    return [RowKey(row, 0, True) for row in range(number)]


@pytest.mark.parametrize("groups", [False, True])
def test_stored_images_are_those_that_datasets_decodes(tmp_path, groups):
    contents = list(odd_images().values())
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    paths = [str(tmp_path / str(number)) for number in range(len(contents))]
    for images in ([{"bytes": content, "path": None} for content in contents], paths):
        records = stored(images)
        numbers = list(range(len(records))) if groups else None
        plain = KeyedRows(records, groups=numbers).__getitems__(keys(len(records)))
        ours = KeyedRows(records, groups=numbers, stored_images=True).__getitems__(keys(len(records)))
        for name, one, other in zip(odd_images(), ours, plain, strict=True):
            assert set(one["image"]) == {"bytes", "path"}
            picture, wanted = to_rgb(open_image(one["image"])), to_rgb(other["image"])
            assert (picture.size, picture.tobytes()) == (wanted.size, wanted.tobytes()), name
            assert {**one, "image": None} == {**other, "image": None}
    assert isinstance(records[0]["image"], Image.Image)  # the user's own records stay as they are


def test_a_transform_and_a_mode_stay_untouched_and_a_format_changes_nothing():
    table = stored([{"bytes": content, "path": None} for content in list(odd_images().values())[:2]])
    grey = stored([{"bytes": content, "path": None} for content in list(odd_images().values())[:2]], mode="L")
    picture = Image.new("RGB", (3, 2), "red")
    red = table.with_transform(lambda rows: {**rows, "image": [picture] * len(rows["question"])})
    for chosen in (red, grey):
        plain, ours = KeyedRows(chosen)[keys(1)[0]], KeyedRows(chosen, stored_images=True)[keys(1)[0]]
        assert plain.keys() == ours.keys()
        assert isinstance(ours["image"], Image.Image)
        assert np.array_equal(np.asarray(ours["image"]), np.asarray(plain["image"]))
    for chosen in (table.with_format("python"), table.with_format("numpy"), table.with_format("arrow", ["question"])):
        assert KeyedRows(chosen, stored_images=True)[keys(1)[0]] == KeyedRows(table, stored_images=True)[keys(1)[0]]


def test_an_image_stored_elsewhere_is_decoded_from_there(tmp_path):
    content = odd_images()["rgb"]
    with zipfile.ZipFile(tmp_path / "charts.zip", "w") as charts:
        charts.writestr("chart.png", content)
    rows = KeyedRows(stored([f"zip://chart.png::{tmp_path}/charts.zip"]), stored_images=True, groups=[0])
    for record in (rows.__getitems__(keys(1))[0], rows[keys(1)[0]]):
        assert record["image"]["bytes"] == content


def test_errors_name_the_record(tmp_path):
    adapter = adapter_for(*tiny())
    collate = ChartQACollator(adapter, raw_charts=True)
    good = odd_images()["rgb"]
    for image, message in [
        (
            {"bytes": b"nothing", "path": None},
            "cannot be decoded .the stored image is no image file of the formats PNG",
        ),
        ({"bytes": good[:200], "path": None}, "cannot be decoded .*truncated"),
        ({"bytes": None, "path": None}, "cannot be decoded .it has neither bytes nor a path"),
        ({"bytes": None, "path": str(tmp_path / "gone.png")}, "cannot be decoded .*No such file"),
        (noise(3000, 1), "the processor takes no image of 3000 x 1 pixels with this question"),
        (None, "has no image"),
    ]:
        with pytest.raises(ValueError, match=rf"record \(chart_id='1', question='What\?'\).*{message}"):
            collate(records([{"bytes": good, "path": None}, image]))
