"""A chart whose pixels are damaged is named by its record, wherever it is decoded."""

from __future__ import annotations

import io

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from chartqa_ft import ChartQATrainer, answer_questions

from ..support.common import arguments
from ..support.families import build

FEATURES = Features({"image": Image(), **dict.fromkeys(("question", "answer", "chart_id"), Value("string"))})


def png(number, *, damaged=False, cut=False):
    out = io.BytesIO()
    Pillow.effect_noise((120, 90), 40 + number).convert("RGB").save(out, "PNG")
    content = bytearray(out.getvalue())
    if damaged:
        content[90:110] = bytes(20)
    return bytes(content[: len(content) // 3] if cut else content)


def charts(at, folder=None, **kind):
    rows = []
    for number in range(8):
        content = png(number, **(kind or {"damaged": True}) if number == at else {})
        image = {"bytes": content, "path": None}
        if folder is not None:
            (folder / f"c{number}.png").write_bytes(content)
            image = str(folder / f"c{number}.png")
        rows.append({"image": image, "question": f"Q {number}?", "answer": str(number), "chart_id": f"id-{number}"})
    return rows


@pytest.mark.parametrize("name", ["unichart", "llava", "pix2struct", "qwen2_5_vl"])
@pytest.mark.parametrize("at", [0, 6])
@pytest.mark.parametrize("kind", [{"damaged": True}, {"cut": True}])
def test_a_training_names_the_record(tmp_path, name, at, kind):
    model, processor = build(name)
    data = Dataset.from_list(charts(at, **kind), features=FEATURES)
    run = ChartQATrainer(model, arguments(tmp_path, max_steps=8, chart_cache="off"), data, None, processor)
    with pytest.raises(ValueError, match=f"id-{at}.*Q {at}\\?"):
        run.train()


@pytest.mark.parametrize("name", ["unichart", "llava"])
def test_workers_and_evaluations_name_it_too(tmp_path, name):
    model, processor = build(name)
    data = Dataset.from_list(charts(6), features=FEATURES)
    settings = {"max_steps": 8, "dataloader_num_workers": 2, "chart_cache": "off"}
    run = ChartQATrainer(model, arguments(tmp_path, **settings), data, data, processor)
    for call in (run.train, run.evaluate, lambda: run.predict(data)):
        with pytest.raises(ValueError, match=r"id-6.*Q 6\?"):
            call()


@pytest.mark.parametrize("name", ["unichart", "llava"])
def test_the_file_is_named(tmp_path, name):
    model, processor = build(name)
    (tmp_path / "charts").mkdir()
    data = Dataset.from_list(charts(6, tmp_path / "charts"), features=FEATURES)
    run = ChartQATrainer(model, arguments(tmp_path, chart_cache="off"), None, data, processor)
    with pytest.raises(ValueError, match=r"c6\.png"):
        run.evaluate()


@pytest.mark.parametrize("name", ["unichart", "llava"])
def test_records_in_lists_and_streams(tmp_path, name):
    model, processor = build(name)
    run = ChartQATrainer(model, arguments(tmp_path, max_steps=8, chart_cache="off"), None, charts(6), processor)
    with pytest.raises(ValueError, match=r"id-6.*Q 6\?"):
        run.evaluate()
    stream = Dataset.from_list(charts(6), features=FEATURES).to_iterable_dataset()
    for workers in (0, 2):
        run.args.dataloader_num_workers = workers
        with pytest.raises(ValueError, match=r"record 6 .*, record \(chart_id='id-6', question='Q 6\?'\), cannot be"):
            run.evaluate(stream)


def test_answers_name_the_image_and_the_question():
    model, processor = build("unichart")
    data = Dataset.from_list(charts(6), features=FEATURES)
    with pytest.raises(ValueError, match=r"images\[6\], for the question 'Q 6\?', cannot be read \(.*Error"):
        answer_questions(model, processor, data["image"], data["question"], max_new_tokens=2)
    images = [row["image"] for row in charts(6)]
    with pytest.raises(ValueError, match=r"question='Q 6\?'\): the image cannot be decoded"):
        answer_questions(model, processor, images, data["question"], max_new_tokens=2)
