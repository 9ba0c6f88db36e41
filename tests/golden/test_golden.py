"""The numerics of transformers 4.28.1 through the public API: `load_checkpoint`, the collator, loss, generation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from chartqa_ft import adapter_for, answer_questions, load_checkpoint
from chartqa_ft.batching.collator import ChartQACollator

GOLDEN = Path(__file__).parent


class Golden:
    """One golden set and the checkpoint it was computed with, loaded as a user would."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.values = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        self.arrays = np.load(folder / "golden.npz")
        self.examples = self.values["examples"]
        self.model, self.processor, self.adapter = load_checkpoint(folder / "checkpoint")
        self.records = [
            {
                "image": Image.open(folder / "images" / example["imgname"]),
                "question": example["query"],
                "answer": example["label"],
                "chart_id": example["imgname"],
            }
            for example in self.examples
        ]

    def answers(self, num_beams: int, batch_size: int, **settings) -> list[str]:
        images, questions = [r["image"] for r in self.records], [r["question"] for r in self.records]
        settings = {
            "batch_size": batch_size,
            "num_beams": num_beams,
            "max_new_tokens": 512,
            "progress": False,
            **settings,
        }
        return answer_questions(self.model, self.processor, images, questions, **settings)


@pytest.fixture(scope="module", params=["modern", "ancient", "shared"])
def golden(request):
    if request.param == "shared":
        return Golden(request.getfixturevalue("shared") / "legacy" / "fixture")
    return Golden(GOLDEN / request.param)


def test_pixel_values(golden):
    batch = ChartQACollator(golden.adapter)(golden.records)
    for row in range(len(golden.records)):
        chart = batch["pixel_values"][batch["chart_index"][row] if "chart_index" in batch else row]
        np.testing.assert_array_equal(chart.numpy(), golden.arrays[f"pixel_values_{row}"])


def test_random_padding_of_training(golden):
    collate = ChartQACollator(golden.adapter, random_padding="global", group_by_chart=False)
    np.random.seed(0)
    pixels = collate(golden.records)["pixel_values"].numpy()
    for row in range(len(golden.records)):
        np.testing.assert_array_equal(pixels[row], golden.arrays[f"train_pixel_values_seed0_{row}"])


def test_token_ids_and_labels(golden):
    for record, example in zip(golden.records, golden.examples, strict=True):
        batch = golden.adapter.encode([record])
        assert batch["decoder_input_ids"][0].tolist() == example["input_ids"][:-1]
        assert batch["labels"][0].tolist() == example["labels"][1:]
        assert golden.adapter.prompt_lengths(batch) == [len(example["prompt_ids"])]


def test_loss(golden):
    with torch.no_grad():
        for record, example in zip(golden.records, golden.examples, strict=True):
            loss = golden.model(**golden.adapter.encode([record])).loss.item()
            assert loss == pytest.approx(example["loss_eval_mode"], abs=2e-6)


@pytest.mark.parametrize(("num_beams", "key"), [(1, "greedy"), (4, "beam4")])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_answers(golden, num_beams, key, batch_size):
    assert golden.answers(num_beams, batch_size) == [example[key]["text"] for example in golden.examples]


def test_a_saved_checkpoint_answers_the_same_again(golden, tmp_path):
    golden.model.save_pretrained(tmp_path)
    golden.processor.save_pretrained(tmp_path)
    model, processor, adapter = load_checkpoint(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    images, questions = [r["image"] for r in golden.records], [r["question"] for r in golden.records]
    answers = answer_questions(model, processor, images, questions, num_beams=4, max_new_tokens=512, progress=False)
    assert answers == [example["beam4"]["text"] for example in golden.examples]
    first, again = golden.adapter.encode(golden.records), adapter.encode(golden.records)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_processor_without_the_old_numbers_is_named(golden, tmp_path, caplog):
    golden.model.save_pretrained(tmp_path)
    golden.processor.save_pretrained(tmp_path)
    adapter_for(golden.model, golden.processor)
    assert not [record for record in caplog.records if record.name.startswith("chartqa_ft")]
    adapter_for(golden.model, AutoProcessor.from_pretrained(tmp_path))
    assert "its processor was not: load both with chartqa_ft.load_checkpoint" in caplog.text


def test_switched_off_it_is_what_transformers_does_today(golden, caplog):
    if golden.folder.name == "ancient":
        # Today's transformers does not know the old image processor's class at all.
        with pytest.raises((ValueError, OSError, AttributeError)):
            load_checkpoint(golden.folder / "checkpoint", compat=False)
        return
    _, _, adapter = load_checkpoint(golden.folder / "checkpoint", compat=False)
    batch = adapter.encode(golden.records[:1])
    assert batch["decoder_input_ids"][0].tolist() != golden.examples[0]["input_ids"][:-1]


def test_the_log_says_in_one_line_what_is_switched_on(golden, caplog):
    with caplog.at_level("INFO", logger="chartqa_ft"):
        load_checkpoint(golden.folder / "checkpoint")
    lines = [record.getMessage() for record in caplog.records if "4.28.1" in record.getMessage()]
    assert len(lines) == 1
    assert "compat=False" in lines[0]
