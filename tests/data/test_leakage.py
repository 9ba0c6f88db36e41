"""Charts that are in the training and in the evaluation data, as copies of any kind."""

from __future__ import annotations

import io

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from chartqa_ft.data import leakage
from chartqa_ft.data.leakage import Leakage, SharedChart, find_leakage
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import undecodable
from ..support.common import drawn_charts

FEATURES = Features({"image": Image(), "question": Value("string"), "chart_id": Value("string")})


def stored(image: Pillow.Image, format: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def charts(number: int) -> list[Pillow.Image]:
    """Different drawn charts."""
    records = drawn_charts()
    first = {name: row for row, name in reversed(list(enumerate(records["chart_id"])))}
    return [records[row]["image"].convert("RGB") for row in sorted(first.values())][:number]


def data_set(images: list[bytes], names: list[str]) -> Dataset:
    rows = [
        {"image": {"bytes": image, "path": None}, "question": "?", "chart_id": name}
        for image, name in zip(images, names, strict=True)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def test_each_kind_is_named_and_questions_are_counted():
    one, two, three, four = charts(4)
    training = data_set([stored(one), stored(two), stored(three), stored(three)], ["a", "b", "c", "c"])
    evaluation = data_set(
        [
            stored(three, "JPEG", quality=90),
            stored(two, "WEBP", lossless=True),
            stored(one),
            stored(one),
            stored(four),
        ],
        ["near", "pixels", "a", "a", "new"],
    )
    found = find_leakage(training, evaluation)
    assert found == Leakage(
        charts=4,
        questions=4,
        shared=(
            SharedChart("a", "a", "bytes"),
            SharedChart("pixels", "b", "pixels"),
            SharedChart("near", "c", "near"),
        ),
    )
    assert str(found) == (
        "3 of 4 evaluation charts, with 4 questions, are in the training data too (1 with the same bytes, 1 with the "
        "same pixels, 1 nearly the same (another format, quality, size or margin)): a, pixels (as b), near (as c)"
    )


def test_three_charts_are_named():
    images = [stored(image) for image in charts(5)]
    records = data_set(images, list("abcde"))
    assert str(find_leakage(records, records)).endswith("(5 with the same bytes): a, b, c and 2 more")


def test_every_form_of_an_image_is_compared(tmp_path):
    image = charts(1)[0]
    (tmp_path / "a.png").write_bytes(stored(image))
    training = [{"image": str(tmp_path / "a.png")}]
    forms = [str(tmp_path / "a.png"), tmp_path / "a.png", stored(image), {"bytes": stored(image), "path": None}, image]
    kinds = [find_leakage(training, [{"image": form}]).shared for form in forms]
    assert [[(chart.evaluation, chart.training, chart.kind) for chart in shared] for shared in kinds] == [
        [("row 0", "row 0", kind)] for kind in ("bytes", "bytes", "bytes", "bytes", "pixels")
    ]


def test_images_that_cannot_be_read_are_counted():
    one, two = charts(2)
    broken = stored(one)[:-150]
    training = data_set([stored(two), undecodable(), broken, broken], list("abcc"))
    evaluation = data_set([stored(one), broken], list("xy"))
    found = find_leakage(training, evaluation)
    assert (found.charts, found.unread) == (2, 3)
    assert found.shared == (SharedChart("y", "c", "bytes"),)
    missing = find_leakage([{"image": "no such file.png"}], [{"image": one}])
    assert str(missing) == "none of the 1 evaluation charts is in the training data; 1 images could not be read"


def test_fingerprints_are_kept_and_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(leakage, "_WORTHWHILE", 4)
    records = data_set([stored(image) for image in charts(4)], list("abcd"))
    copies = data_set([stored(image, "JPEG") for image in charts(4)], list("wxyz"))
    first = find_leakage(records, copies, cache=tmp_path)
    assert len(first.shared) == 4
    monkeypatch.setattr(leakage, "fingerprint", None)  # to decode a chart would fail, and count it as unread
    assert find_leakage(records, copies, cache=tmp_path) == first
    assert find_leakage(records, copies).unread == 8


def test_a_chart_that_recurs_is_decoded_once(monkeypatch):
    true, decoded = leakage.fingerprint, []
    monkeypatch.setattr(leakage, "fingerprint", lambda image: decoded.append(1) or true(image))
    monkeypatch.setattr(leakage, "_ROWS", 2)
    images = [stored(image) for image in charts(3)]
    records = data_set([images[number] for number in (0, 1, 0, 0, 1, 2, 2, 0)], list("abaabcca"))
    found = find_leakage(records, records)
    assert (found.charts, found.questions, len(found.shared)) == (3, 8, 3)
    assert len(decoded) == 3


def test_few_fingerprints_are_not_worth_a_file(tmp_path):
    find_leakage(drawn_charts(), drawn_charts(), cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_of_a_dataset_are_not_decoded_by_datasets():
    image = stored(charts(1)[0])
    records = data_set([image] * 3, list("aaa")).with_transform(lambda batch: 1 / 0)
    assert find_leakage(records, records).questions == 3


def test_real_splits_are_clean_and_planted_copies_are_found(shared):
    test = load_chartqa(str(shared / "chartqa"), split="test")
    train = load_chartqa(str(shared / "chartqa"), split="train")
    test, train = test.select(range(0, len(test), 60)), train.select(range(0, len(train), 30))
    assert find_leakage(train, test).shared == ()
    planted = [{**row, "image": Pillow.open(io.BytesIO(copy(row)))} for row, copy in zip(test, ways(), strict=False)]
    found = find_leakage([*train, *planted], test)
    assert [chart.evaluation for chart in found.shared] == [row["chart_id"] for row in planted]
    assert {chart.kind for chart in found.shared} == {"near"}


def ways():
    """Ways to copy a chart: JPEG, and scaled by 0.5, 0.9 and 2."""
    yield lambda row: stored(row["image"].convert("RGB"), "JPEG", quality=85)
    for factor in (0.5, 0.9, 2):
        yield lambda row, factor=factor: stored(
            row["image"].convert("RGB").resize([round(side * factor) for side in row["image"].size])
        )


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads):
    records = drawn_charts()
    assert find_leakage(records, records, threads=threads) == find_leakage(records, records)
