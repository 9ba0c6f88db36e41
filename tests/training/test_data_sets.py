"""What a user may give to the trainer as data: it trains and is scored as the plain records are, or is refused."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image, ImageDraw

from ..support.common import Gradients, Items, drawn_charts, relative_l2, tiny, trainer

CHART = Image.new("RGB", (96, 96), "white")
RAW = Dataset.from_dict({"image": [CHART] * 4, "query": ["How many?"] * 4, "label": [["3"]] * 4})


def wide_chart(number: int) -> Image.Image:
    chart = Image.new("RGB", (96, 40), "white")
    ImageDraw.Draw(chart).rectangle([10 + 7 * number, 5, 40 + 9 * number, 35], "red")
    return chart


WIDE = [
    {"image": wide_chart(n // 3), "question": f"q {n}", "answer": str(n), "source": "human", "chart_id": f"c{n // 3}"}
    for n in range(8)
]
NO_IDS = [{key: value for key, value in row.items() if key != "chart_id"} for row in WIDE]


def marked(rows):
    """Draw the question's number on its chart, so that rows of one chart have several pictures."""
    pictures = []
    for image, question in zip(rows["image"], rows["question"], strict=True):
        picture = image.copy()
        ImageDraw.Draw(picture).rectangle([80, 0, 96, 4 * int(question[2:])], "blue")
        pictures.append(picture)
    return {**rows, "image": pictures}


PADDED = {
    "list": WIDE,
    "datasets": Dataset.from_list(WIDE),
    "transform": Dataset.from_list(WIDE).with_transform(marked),
    "torch": Items(WIDE),
    "no chart_id": NO_IDS,
    "stream": Dataset.from_list(WIDE).to_iterable_dataset(),
}


def gradient(folder, records, size, steps, **changes) -> torch.Tensor:
    seen = Gradients()
    split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
    trainer(folder, records=records, callbacks=[seen], random_padding=True, **split, **changes).train()
    return seen.vector


@pytest.mark.parametrize("name", PADDED)
def test_random_padding_does_not_depend_on_how_a_step_is_split(tmp_path, name):
    reference = gradient(tmp_path, PADDED[name], 8, 1)
    for size, steps in ((4, 2), (1, 8)):
        assert relative_l2(gradient(tmp_path, PADDED[name], size, steps), reference) < 1e-5


def test_random_padding_is_drawn_by_the_row_where_charts_are_not_shared(tmp_path):
    alone = {"group_by_chart": False}
    reference = gradient(tmp_path, WIDE, 8, 1, **alone)
    assert relative_l2(gradient(tmp_path, WIDE, 2, 4, **alone), reference) < 1e-5
    assert relative_l2(gradient(tmp_path, WIDE, 8, 1), reference) > 1e-3


def test_questions_on_a_chart_share_a_draw_and_every_epoch_draws_anew(tmp_path):
    run = trainer(tmp_path, records=WIDE, random_padding=True, per_device_train_batch_size=2)
    loader = run.get_train_dataloader()
    tops = []
    for epoch in range(3):
        run._set_epoch.source.set_epoch(epoch)
        seen: dict[str, set[int]] = {}
        for batch in loader:
            pixels = run.adapter.to_float(batch["pixel_values"])
            for row, text in enumerate(run.adapter.decode(batch["labels"])):
                chart = batch["chart_index"][row] if "chart_index" in batch else row
                inside = (pixels[chart, 0] > -1).any(dim=1)
                seen.setdefault(f"c{int(text) // 3}", set()).add(int(inside.int().argmax()))
        assert all(len(draws) == 1 for draws in seen.values()), seen
        tops.append(sorted((chart, min(draws)) for chart, draws in seen.items()))
    assert tops[0] != tops[1] != tops[2]


def made_answers(rows):
    return {"image": rows["image"], "question": rows["query"], "answer": [label[0] for label in rows["label"]]}


EVALUATED = {
    "transform": RAW.with_transform(made_answers),
    "zeros": [{"image": CHART, "question": "How many?", "answer": 0}] * 4,
    "false": Items([{"image": CHART, "question": "Is it?", "answer": False}] * 4),
}


@pytest.mark.parametrize("name", ["transform", "zeros", "false"])
def test_answers_that_only_rows_hand_out_are_scored(tmp_path, name):
    data = EVALUATED[name]
    run = trainer(tmp_path, records=data, eval_dataset={"val": data}, per_device_eval_batch_size=2)
    metrics = run.evaluate()
    assert metrics["eval_val_n"] == 4
    assert metrics["eval_val_loss"] > 0
    hidden = run.predict([{"image": CHART, "question": "How many?"}] * 3)
    assert len(hidden.predictions) == 3
    assert "test_loss" not in hidden.metrics


def test_formats_change_neither_losses_nor_subsets(tmp_path):
    def numbers(data):
        run = trainer(tmp_path, records=data, eval_dataset=data, eval_subset=6, eval_strategy="steps", eval_steps=1)
        loss = run.train().training_loss
        (logged,) = [entry for entry in run.state.log_history if "eval_loss" in entry]
        return loss, logged["eval_loss"], logged["eval_n"]

    plain = numbers(drawn_charts())
    assert plain[2] == 6
    for name in ("pandas", "torch"):
        assert numbers(drawn_charts().with_format(name)) == plain


def test_a_subset_needs_no_sources(tmp_path):
    data = drawn_charts().remove_columns("source")
    run = trainer(tmp_path, records=data, eval_dataset=data, eval_subset=4, eval_strategy="steps", eval_steps=1)
    run.train()
    assert [entry["eval_n"] for entry in run.state.log_history if "eval_n" in entry] == [4]


def test_data_that_cannot_be_used_is_refused_at_once(tmp_path):
    for wrong, error, message in (
        (RAW, ValueError, "train_dataset has no 'question' and no 'answer'.*load_chartqa"),
        (DatasetDict(train=drawn_charts()), ValueError, r"train_dataset=data\['train'\]"),
        ((row for row in WIDE), ValueError, "train_dataset is a generator"),
        (drawn_charts().remove_columns("answer"), ValueError, "train_dataset has no 'answer'"),
    ):
        with pytest.raises(error, match=message):
            trainer(tmp_path, records=wrong)
    with pytest.raises(ValueError, match=r"eval_dataset\['raw'\] has no 'question'"):
        trainer(tmp_path, eval_dataset={"good": drawn_charts(), "raw": RAW})
    run = trainer(tmp_path)
    with pytest.raises(ValueError, match="eval_dataset has no 'question'"):
        run.evaluate(RAW)
    with pytest.raises(ValueError, match="has no 'question'"):
        run.predict(list(RAW))


def test_a_row_keeps_its_picture_through_evaluation(tmp_path):
    """With white charts, and with charts that a transform marks, rows answer as they do one by one."""
    model, _ = tiny()
    data = Dataset.from_list(WIDE).with_transform(marked)
    runs = [
        trainer(tmp_path, model=model, eval_dataset=data, per_device_eval_batch_size=size, generation_max_new_tokens=4)
        for size in (8, 1)
    ]
    losses = [run.evaluate()["eval_loss"] for run in runs]
    assert abs(losses[0] - losses[1]) < 1e-5
    unmarked = trainer(tmp_path, model=model, eval_dataset=WIDE, generation_max_new_tokens=4).evaluate()["eval_loss"]
    assert abs(unmarked - losses[0]) > 1e-5
