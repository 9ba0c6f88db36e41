"""UniChart's other prompts give the numbers and the answers of transformers 4.28.1, with and without a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from chartqa_ft import answer_questions, load_checkpoint

GOLDEN = Path(__file__).parent
TASKS = ("summary", "table", "open_qa")


@pytest.fixture(scope="module", params=["modern", "ancient"])
def golden(request):
    folder = GOLDEN / request.param
    values = json.loads((folder / "golden_tasks.json").read_text(encoding="utf-8"))
    examples = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    images = [Image.open(folder / "images" / example["imgname"]) for example in examples]
    return values, examples, images, load_checkpoint(folder / "checkpoint")


@pytest.mark.parametrize("task", TASKS)
def test_ids_labels_and_loss(golden, task):
    values, examples, images, (model, _, adapter) = golden
    for i, value in enumerate(values[task]):
        record = {"image": images[i], "task": task, "answer": value["target"], "question": examples[i]["query"]}
        batch = adapter.encode([record])
        assert batch["decoder_input_ids"][0].tolist() == value["input_ids"][:-1]
        assert batch["labels"][0].tolist() == value["labels"][1:]
        assert adapter.prompt_lengths(batch) == [len(value["prompt_ids"])]
        with torch.no_grad():
            assert model(**batch).loss.item() == pytest.approx(value["loss_eval_mode"], abs=2e-6)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("num_beams", "key"), [(1, "greedy"), (4, "beam4")])
def test_answers(golden, task, num_beams, key):
    values, examples, images, (model, processor, _) = golden
    rows = [i for i, value in enumerate(values[task]) if value[key]["clear"]]
    questions = [examples[i]["query"] for i in rows] if task == "open_qa" else None
    settings = {"task": task, "num_beams": num_beams, "max_new_tokens": 512, "progress": False}
    answers = answer_questions(model, processor, [images[i] for i in rows], questions, **settings)
    assert rows
    assert answers == [values[task][i][key]["text"] for i in rows]
