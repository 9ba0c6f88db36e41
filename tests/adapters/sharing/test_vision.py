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


class Model(torch.nn.Module):
    """A model of a vision tower only."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def get_encoder(self, modality):
        return self.tower

    def forward(self, *args, **kwargs):
        return self.tower(*args, **kwargs)


class Tower(torch.nn.Module):
    """A tower whose output has one of several forms."""

    def __init__(self, form):
        super().__init__()
        self.form, self.drop, self.seen = form, torch.nn.Dropout(0.5), []

    def forward(self, pixel_values, image_sizes, layers=(0,)):
        self.seen.append(len(pixel_values))
        rows = pixel_values.flatten(2).transpose(1, 2)  # (images, patches, channels)
        if len(image_sizes) != len(rows):
            raise RuntimeError("a size is needed for each image")
        if self.form == "one row":
            return (rows.reshape(1, -1, rows.shape[-1]),)
        if self.form == "patches":
            return (rows.reshape(-1, rows.shape[-1]),)
        if self.form == "a part for each image":
            return tuple(rows)
        if self.form == "numbered":
            return (rows + torch.arange(float(len(rows)))[:, None, None],)
        if self.form == "layers":
            return (rows + sum(layers) + len(layers),)
        if self.form == "dropout":
            return (rows, self.drop(rows))
        others = {"rows": None, "sum of all": rows.sum(), "mean of all": rows.mean(dim=0)}
        return (rows, others[self.form])


SHARED = {"rows", "layers", "dropout"}
FORMS = ["one row", "patches", "a part for each image", "numbered", "sum of all", "mean of all", *sorted(SHARED)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("charts", [[0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0, 1, 2]])
@pytest.mark.parametrize("sizes", [torch.Tensor.tolist, torch.Tensor.clone])
def test_a_tower_that_gives_something_else_for_fewer_images_encodes_every_row(form, charts, sizes):
    model, images = Model(Tower(form)), torch.arange(1.0, 4.0)[:, None, None, None].expand(3, 3, 2, 2).contiguous()
    pixels, size = images[charts], sizes(torch.full((len(charts), 2), 2))
    for layers in ((0,), (0, 1), (0, 1, 2)):  # as many as there are images in one of the cases
        expected = model(pixels, size, layers=layers)
        share_vision(model)
        state = torch.random.get_rng_state()
        for _ in range(2):
            found = model(pixels, size, layers=layers, chart_index=torch.tensor(charts))
            assert len(found) == len(expected)
            assert torch.equal(found[0], expected[0])
            if form != "dropout":
                assert torch.equal(torch.random.get_rng_state(), state)
        assert model.tower.training
        if len(layers) not in (len(charts), len(set(charts))):
            # The last call encodes each chart once, or where the tower gives something else then, each row.
            assert model.tower.seen[-1] == len(set(charts) if form in SHARED else charts)


class Packed(torch.nn.Module):
    """A tower that gets the patches of all images in one tensor and their shapes, under names of its own."""

    def __init__(self, merge):
        super().__init__()
        self.merge, self.seen = merge, []

    def forward(self, patches, shapes, masks=None):
        self.seen.append(len(patches))
        parts = patches.split(shapes.prod(dim=1).tolist())
        if self.merge == "to one":
            return torch.stack([part.mean(dim=0) for part in parts])
        if self.merge == "to at least two":
            return torch.cat([part if len(part) < 4 else part.reshape(2, -1, part.shape[1]).mean(1) for part in parts])
        return patches.reshape(-1, 2, patches.shape[1]).mean(dim=1)


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("merge", ["pairs", "to one", "to at least two"])
def test_packed_images_are_known_by_their_shapes_however_these_are_named_and_passed(merge, positional):
    model = Model(Packed(merge))
    share_vision(model)
    for shapes in ([[2, 2], [2, 2]], [[2, 4], [1, 2], [2, 4]], [[2, 4], [4, 2], [2, 4]], [[1, 4, 4]] * 3):
        images = {str(shape): torch.randn(torch.tensor(shape).prod(), 3) for shape in shapes}
        patches, grid = torch.cat([images[str(shape)] for shape in shapes]), torch.tensor(shapes)
        expected = model(patches, grid)
        args, kwargs = ((patches, grid), {}) if positional else ((patches,), {"shapes": grid})
        for _ in range(2):
            assert torch.equal(model(*args, **kwargs, chart_index=torch.tensor([0, 1, 0])), expected)
        if merge == "pairs":
            assert model.tower.seen[-1] == sum(map(len, images.values()))


def test_a_tower_that_fails_for_a_part_of_its_images_gets_all_of_them():
    class Whole(Tower):
        def forward(self, pixel_values, image_sizes, layers=(0,)):
            if len(pixel_values) < 3:
                raise ZeroDivisionError("integer modulo by zero")
            return super().forward(pixel_values, image_sizes)

    model, pixels = Model(Whole("rows")), torch.ones(3, 3, 2, 2)
    share_vision(model)
    assert torch.equal(model(pixels, [(2, 2)] * 3, chart_index=torch.zeros(3))[0], torch.ones(3, 4, 3))
    assert model.tower.seen[-1] == 3
