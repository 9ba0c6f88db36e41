"""An image file that is not there is found before the first step, also one of a later evaluation."""

from __future__ import annotations

import datasets
import pytest

from chartqa_ft.training.checks.image_files import missing_images

from ...support.common import drawn_charts, trainer


@pytest.fixture
def rows(tmp_path):
    """Eight records whose images are files; the last one is missing."""
    records = []
    for number, record in enumerate(drawn_charts().select(range(8))):
        path = tmp_path / f"{number}.png"
        record["image"].save(path)
        records.append({**record, "image": str(path)})
    (tmp_path / "7.png").unlink()
    return records


def stored(rows):
    """As `load_dataset` stores paths."""
    return datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())


@pytest.mark.parametrize("kind", [list, stored, datasets.Dataset.from_list])
@pytest.mark.parametrize("call", ["train", "evaluate", "predict", "train with evaluations"])
def test_a_missing_file_is_found_before_the_first_step(tmp_path, rows, kind, call):
    records = kind(rows)
    said = r"1 of 8 records have no image: row 7: record \(chart_id=.*: the file .*7\.png does not exist"
    if call == "train with evaluations":
        run = trainer(tmp_path / "out", eval_dataset={"val": records}, eval_strategy="steps", eval_steps=1)
        with pytest.raises(ValueError, match=rf"eval_dataset\['val'\]: {said}"):
            run.train()
    else:
        run = trainer(tmp_path / "out", records=records)
        with pytest.raises(ValueError, match=said):
            getattr(run, call)(*([] if call == "train" else [records]))
    assert run.state.global_step == 0


def test_images_that_are_there_are_no_finding(tmp_path, rows):
    for records in (rows[:7], stored(rows[:7]), drawn_charts(), drawn_charts().to_iterable_dataset(), None):
        assert missing_images(records) == []
    assert missing_images([{"image": {"path": "https://host/a.png", "bytes": None}}, {"image": b"..."}]) == []
    assert missing_images([{"image": {"path": "gone.png", "bytes": b"..."}}]) == []
    assert missing_images(stored(rows).with_transform(lambda batch: batch)) == []


def test_a_record_without_an_image_is_found(rows):
    rows[3]["image"] = None
    found = [row for row, _ in missing_images(rows)]
    assert found == [row for row, _ in missing_images(stored(rows))] == [3, 7]
