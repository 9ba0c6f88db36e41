"""The vision tower encodes a chart once for all its questions in a batch, and the output does not change."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.sharing.vision import share_vision, sharing_vision
from chartqa_ft.batching.collator import ChartQACollator

from ...support.families import FAMILIES, KINDS, build, draw_bars, records

SHARING = [name for name in FAMILIES if KINDS[name] != "decoder-prompt" and name != "pix2struct"]
PROMPT = "{question} Answer:"


class Images:
    """Counts the inputs of the vision tower, after the hooks that share it."""

    def __init__(self, model):
        self.rows: list[int] = []
        model.get_encoder(modality="image").register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module, args, kwargs):
        pixels = next(value for value in [*args, *kwargs.values()] if torch.is_tensor(value))
        self.rows.append(len(pixels))


def shared_batch(name: str):
    """A family with our hooks and then a counter, and one batch of three charts with two, three and one questions."""
    model, processor = build(name)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    adapter.attach(model)
    rows = records(6)
    again = {**rows[0], "question": "What is it?", "answer": "12.5 %"}
    examples = [rows[0], rows[2], rows[1], again, rows[3], {**rows[2], "question": "Red or blue?", "answer": "red"}]
    return model, adapter, Images(model), examples


def entries(model, adapter, counter, examples) -> int:
    counter.rows.clear()
    with torch.no_grad():
        model(**adapter.model_inputs(adapter.encode(examples)))
    (rows,) = counter.rows
    return rows


@pytest.mark.parametrize("name", SHARING)
def test_every_chart_is_looked_at_once(name):
    model, adapter, counter, examples = shared_batch(name)
    alone = entries(model, adapter, counter, examples)
    distinct = entries(model, adapter, counter, [examples[0], examples[1], examples[4]])
    batch = ChartQACollator(adapter)(examples)
    assert batch["chart_index"].tolist() == [0, 1, 0, 0, 2, 1]
    plain = {key: value for key, value in batch.items() if key != "chart_index"}
    gradients = []
    for inputs in (plain, batch):
        model.zero_grad()
        counter.rows.clear()
        logits = model(**adapter.model_inputs(inputs)).logits[adapter.label_mask(batch["labels"])]
        logits.logsumexp(-1).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        if inputs is plain:
            assert counter.rows == [alone]
            expected = logits.detach()
        else:
            assert counter.rows == [distinct]
            assert distinct < alone
            torch.testing.assert_close(logits.detach(), expected, rtol=1e-5, atol=1e-6)
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-5


@pytest.mark.parametrize("name", SHARING)
def test_generation_looks_at_every_chart_once_for_all_beams_and_rows(name):
    model, adapter, counter, examples = shared_batch(name)
    distinct = entries(model, adapter, counter, [examples[0], examples[1], examples[4]])
    batch = ChartQACollator(adapter, with_answers=False)(examples)
    for beams in (1, 3):
        counter.rows.clear()
        together = adapter.generate(model, batch, max_new_tokens=4, num_beams=beams)
        # Kosmos-2 generates rows of one prompt length at a time, and charts do not meet across them.
        assert max(counter.rows) <= distinct
        plain = {key: value for key, value in batch.items() if key != "chart_index"}
        assert together.equal(adapter.generate(model, plain, max_new_tokens=4, num_beams=beams))


def test_equal_pixels_alone_decide():
    """Two charts of one name and size but for one pixel stay two; one chart under two names is encoded once."""
    model, processor = build("llava")
    adapter = adapter_for(model, processor, prompt=PROMPT)
    adapter.attach(model)
    counter = Images(model)
    image = draw_bars((7, 2, 1, 6), (64, 48))
    other = image.copy()
    other.putpixel((30, 20), (1, 2, 3))
    examples = [
        {"image": image, "question": "a", "answer": "1", "chart_id": "x"},
        {"image": other, "question": "b", "answer": "1", "chart_id": "y"},
        {"image": image.copy(), "question": "c", "answer": "1", "chart_id": "z"},
    ]
    batch = adapter.encode(examples)
    inputs = adapter.model_inputs({**batch, "chart_index": torch.tensor([0, 1, 0])})
    with torch.no_grad():
        shared = model(**inputs).logits
        assert counter.rows == [2]
        torch.testing.assert_close(shared, model(**adapter.model_inputs(batch)).logits, rtol=1e-5, atol=1e-6)
    assert counter.rows == [2, 3]


def test_blank_charts_of_one_area_and_two_shapes_stay_two():
    model, processor = build("qwen3_vl")
    adapter = adapter_for(model, processor, prompt=PROMPT)
    adapter.attach(model)
    sizes = [(64, 32), (32, 64), (64, 32)]
    examples = [
        {"image": Image.new("RGB", size, "white"), "question": "a", "answer": "1", "chart_id": str(size)}
        for size in sizes
    ]
    batch = adapter.encode(examples)
    with torch.no_grad():
        plain = model(**adapter.model_inputs(batch)).logits
        shared = model(**adapter.model_inputs({**batch, "chart_index": torch.tensor([0, 1, 0])})).logits
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-6)


def test_attaching_twice_adds_no_second_hook_and_contexts_end():
    model, processor = build("llava")
    adapter = adapter_for(model, processor, prompt=PROMPT)
    adapter.attach(model)
    tower = model.get_encoder(modality="image")
    hooks = len(tower._forward_pre_hooks)
    share_vision(model)
    assert len(tower._forward_pre_hooks) == hooks
    counter = Images(model)
    inputs = adapter.model_inputs(adapter.encode([records(1)[0]] * 2))
    with torch.no_grad():
        with sharing_vision(model):
            model(**inputs)
        model(**inputs)
    assert counter.rows == [1, 2]


class Rows(torch.nn.Module):
    """A model of a vision tower only, whose output has one of several forms."""

    def __init__(self, form):
        super().__init__()
        self.tower = Tower(form)

    def get_encoder(self, modality):
        return self.tower

    def forward(self, pixel_values, image_sizes):
        return self.tower(pixel_values, image_sizes=image_sizes)


class Tower(torch.nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.seen = form, []

    def forward(self, pixel_values, image_sizes):
        self.seen.append(len(pixel_values))
        rows = pixel_values.flatten(2).transpose(1, 2)  # (images, patches, channels)
        if self.form == "one row":
            return (rows.reshape(1, -1, rows.shape[-1]),)
        if self.form == "patches":
            return (rows.reshape(-1, rows.shape[-1]),)
        return (rows, rows.sum()) if self.form == "rows" else (rows, rows.mean(dim=0))


@pytest.mark.parametrize("form", ["rows", "one row", "patches", "mean of all"])
@pytest.mark.parametrize("charts", [[0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0, 1, 2]])
def test_a_tower_whose_output_is_no_row_per_image_encodes_every_row(form, charts):
    model, torch_rows = Rows(form), torch.arange(3.0)[:, None, None, None].expand(3, 3, 2, 2).contiguous()
    pixels, sizes = torch_rows[charts], torch.full((len(charts), 2), 2)
    expected = model(pixels, sizes)
    share_vision(model)
    for _ in range(2):
        found = model(pixels, sizes, chart_index=torch.tensor(charts))
        assert torch.equal(found[0], expected[0])
    # The last call encodes each chart once, or where the form of the output forbids it, each row.
    assert model.tower.seen[-1] == (len(set(charts)) if form == "rows" else len(charts))
