"""Records become one batch in which each chart is contained once."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.rows import CHART_KEY, ROW_KEY, RowKey

from ..support.common import drawn_charts, tiny
from ..support.encoding import BLACK_VALUE, WHITE_VALUE, example, pair


def test_grouped_batch_encodes_each_chart_once(adapter):
    a, b = drawn_charts()[0]["image"], drawn_charts()[5]["image"]
    examples = [
        example(image=a, chart_id="a"),
        example("How many bars are there?", image=b, chart_id="b"),
        example("Which color is highest?", "red", image=a, chart_id="a"),
    ]
    grouped = ChartQACollator(adapter)(examples)
    plain = ChartQACollator(adapter, group_by_chart=False)(examples)
    assert next(iter(grouped)) == "decoder_input_ids"
    assert grouped["chart_index"].tolist() == [0, 1, 0]
    assert grouped["chart_index"].dtype == torch.int64
    assert grouped["pixel_values"].shape[0] == 2
    assert "chart_index" not in plain
    assert torch.equal(grouped["pixel_values"][grouped["chart_index"]], plain["pixel_values"])
    assert torch.equal(grouped["labels"], plain["labels"])


def test_only_rows_with_one_id_and_one_image_share_a_chart(adapter):
    red, blue = (Image.new("RGB", (96, 96), color) for color in ("red", "blue"))

    def charts(examples):
        batch = ChartQACollator(adapter)(examples)
        plain = ChartQACollator(adapter, group_by_chart=False)(examples)["pixel_values"]
        index = batch.get("chart_index", torch.arange(len(examples)))
        assert torch.equal(batch["pixel_values"][index], plain)
        return index.tolist()

    pictures = [red, blue, red.copy(), red]
    assert charts([example(image=image) for image in pictures]) == [0, 1, 0, 0]
    for nothing in (None, ""):
        assert charts([example(image=image, chart_id=nothing) for image in pictures]) == [0, 1, 2, 3]
    assert charts([{"image": image, "question": "?", "answer": "3"} for image in pictures]) == [0, 1, 2, 3]
    # the group that the loader verified goes before the id
    assert charts([example(image=i, **{CHART_KEY: g}) for i, g in zip(pictures, [5, 6, 5, 7], strict=True)]) == [
        0,
        1,
        0,
        2,
    ]


def test_rows_that_do_not_count_have_no_labels(adapter):
    examples = [
        example(source="human", row="mine", **{ROW_KEY: RowKey(*key)}) for key in [(4, 0, True), (0, 0, False)]
    ]
    batch = ChartQACollator(adapter, keep_rows=True)(examples)
    assert (batch["labels"][1] == -100).all()
    assert (batch["labels"][0] != -100).any()
    assert [row["index"] for row in batch["rows"]] == [4, -1]
    assert batch["rows"][0] == {
        "index": 4,
        "chart_id": "w",
        "question": "What is the value of red?",
        "answer": "3",
        "source": "human",
    }


def test_random_padding_depends_on_seed_epoch_and_row_alone(adapter):
    chart = Image.new("RGB", (96, 48), "white")

    def pixels(row, epoch, seed=0):
        collate = ChartQACollator(adapter, random_padding="seeded", seed=seed)
        return collate([example(image=chart, **{ROW_KEY: RowKey(row, epoch, True)})])["pixel_values"][0]

    first = pixels(3, 1)
    assert torch.equal(first, pixels(3, 1))
    white = (first == WHITE_VALUE).all(dim=0)
    top = int(white.any(dim=1).int().argmax())
    assert white[top : top + 48].all()
    assert (first[:, ~white] == BLACK_VALUE).all()
    assert int(white.sum()) == 96 * 48
    tops = {
        int((pixels(row, epoch, seed)[0] == WHITE_VALUE).any(dim=1).int().argmax())
        for row, epoch, seed in [(3, 1, 0), (4, 1, 0), (3, 2, 0), (3, 1, 1), (9, 9, 9)]
    }
    assert len(tops) > 1


def test_random_padding_without_row_keys_differs_from_chart_to_chart_and_repeats_with_the_seed(adapter):
    chart = Image.new("RGB", (96, 48), "white")

    def tops(seed):
        collate = ChartQACollator(adapter, random_padding="seeded", group_by_chart=False, seed=seed)
        batches = [collate([example(image=chart)] * 4)["pixel_values"] for _ in range(2)]
        return [int((p[0] == WHITE_VALUE).any(dim=1).int().argmax()) for p in torch.cat(batches)]

    assert len(set(tops(0))) > 4
    assert tops(0) == tops(0) != tops(1)


def test_worker_processes_place_charts_differently_and_repeat_with_the_seed(adapter):
    chart = Image.new("RGB", (96, 48), "white")
    collate = ChartQACollator(adapter, random_padding="seeded", group_by_chart=False)

    def tops():
        loader = DataLoader(
            [example(image=chart)] * 16,
            batch_size=4,
            collate_fn=collate,
            num_workers=2,
            generator=torch.Generator().manual_seed(0),
        )
        return [
            [int((p[0] == WHITE_VALUE).any(dim=1).int().argmax()) for p in batch["pixel_values"]] for batch in loader
        ]

    first = tops()
    assert first == tops()
    assert len({tuple(batch) for batch in first}) == 4


def test_rows_report_what_a_metric_reads(adapter):
    record = example(question_type="Factoid", year_flags=["NO"], source="human", **{ROW_KEY: RowKey(7, 0, True)})
    assert ChartQACollator(adapter, keep_rows=True)([record])["rows"] == [
        {
            "index": 7,
            "chart_id": "w",
            "question": "What is the value of red?",
            "answer": "3",
            "source": "human",
            "question_type": "Factoid",
            "year_flags": ["NO"],
        }
    ]


def test_a_custom_family_is_asked_for_what_sharing_charts_needs(adapter):
    class Bare(Adapter):
        name, default_prompt = "bare", "{question}"

        def encode(self, examples, *, with_answers=True):
            return {"labels": torch.zeros(len(examples), 1)}

        def generate(self, model, batch, **settings):
            raise AssertionError("not called")

    model, processor = tiny()
    bare = Bare(model, processor)
    assert list(ChartQACollator(bare)([example()])) == ["labels"]
    with pytest.raises(ValueError, match="random_padding needs an image processor"):
        ChartQACollator(bare, random_padding="seeded")
    bare.pads_charts = True
    with pytest.raises(ValueError, match=r"shares_encoder=True have: 'bare' has it False"):
        ChartQACollator(bare, random_padding="seeded")
    Bare.shares_encoder = True
    with pytest.raises(NotImplementedError, match="Bare has shares_encoder=True and must define encode_text"):
        ChartQACollator(bare)([example()])
    with pytest.raises(NotImplementedError, match="Bare has shares_encoder=True and must define encode_images"):
        bare.encode_images([])


def test_collator_refuses_what_the_adapter_cannot_do():
    model, processor = pair("gpt2")
    adapter = adapter_for(model, processor, prompt="{question}")
    with pytest.raises(ValueError, match="random_padding needs an image processor that pads"):
        ChartQACollator(adapter, random_padding="seeded")
    with pytest.raises(ValueError, match="random_padding must be"):
        ChartQACollator(adapter, random_padding="always")
