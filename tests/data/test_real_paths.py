"""Files are found where their links lead."""

from __future__ import annotations

import os

import pytest

from ..support.chart_records import (
    write_images,
)


def test_a_file_is_found_where_its_links_lead(tmp_path):
    from chartqa_ft.data.real_paths import RealPaths

    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "deep", outside):
        write_images(folder, a=10)
    (inside / "folder").symlink_to(outside)
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "broken.png").symlink_to(outside / "nothing.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    names = ["deep/a.png", "./deep//a.png", "deep/../deep/a.png", "folder/a.png", "folder/../in/deep/a.png", "deep"]
    names += ["link.png", "broken.png", "loop.png", "nothing/a.png", "deep/a.png/", "deep/..", ".", "", "/a.png"]
    names += [str(outside / "a.png"), "deep/a.png/more.png", "x" * 300, "../out/a.png", "/", "//"]
    places = RealPaths()
    for _ in range(2):
        for name in names:
            path = os.path.realpath(inside / name)
            assert places.find(str(inside), name) == (path, os.path.isfile(path)), name
    assert [name for name in names if places.find(str(inside), name)[1]] == [
        *names[:5],
        "link.png",
        "deep/a.png/",
        str(outside / "a.png"),
        "../out/a.png",
    ]
    for name in ("a\0.png", "\0/a.png"):
        with pytest.raises(ValueError, match="null"):
            places.find(str(inside), name)
