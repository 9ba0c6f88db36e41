"""Small pictures of charts, and how they are found."""

from __future__ import annotations

import io

import pytest
from datasets import Dataset
from PIL import Image

from chartqa_ft.reporting.thumbnails import ChartImages, thumbnail


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (320, 240)), ((100, 80), (100, 80)), ((200, 9600), (20, 960)), ((640, 20), (320, 10))],
)
def test_a_chart_is_reduced_to_the_width_and_never_enlarged(size, expected):
    content, found = thumbnail(Image.new("RGB", size, (250, 0, 0)))
    assert found == opened(content).size == expected


def test_transparency_becomes_white():
    content, _ = thumbnail(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert opened(content).convert("RGB").getpixel((4, 4)) == (255, 255, 255)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(ValueError):
        thumbnail(path)


def test_charts_are_found_in_a_folder_and_nowhere_else(tmp_path):
    folder = tmp_path / "png"
    folder.mkdir()
    for path in (folder / "a.png", folder / "b.png", tmp_path / "secret.png"):
        Image.new("RGB", (4, 4)).save(path)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    images = ChartImages(folder)

    def name(chart_id):
        found = images.find({"index": 0, "chart_id": chart_id})
        return found and found.name

    assert [name(chart) for chart in ("a.png", "b")] == ["a.png", "b.png"]
    for chart in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "up/secret.png", "", None, 7, "a\0.png"):
        assert name(chart) is None


def test_charts_are_found_by_id_or_by_row_number():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    row = {"index": 1, "chart_id": "b"}
    assert ChartImages({"b": blue}).find(row) is blue
    assert ChartImages([{"image": red, "chart_id": "b"}, {"image": blue, "chart_id": "a"}]).find(row) is red
    assert ChartImages([{"image": red}, {"image": blue}]).find(row) is blue
    assert ChartImages([{"image": red}]).find(row) is None
    assert ChartImages(None).find(row) is None
    data = Dataset.from_list([{"image": "x.png", "chart_id": "a"}, {"image": "y.png", "chart_id": "b"}])
    assert ChartImages(data).find(row) == "y.png"


@pytest.mark.parametrize(("images", "error"), [(7, TypeError), (b"x", TypeError), ("nowhere", ValueError)])
def test_other_sources_of_charts_are_refused(images, error):
    with pytest.raises(error, match="images"):
        ChartImages(images)
