"""Resized charts on disk: the pixels that resizing makes, whatever happens to the folder."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub.constants import HF_HOME
from PIL import Image

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.image_cost import set_image_cost
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.images import cache as chart_cache
from chartqa_ft.images.cache import ChartCache, open_chart_cache
from chartqa_ft.images.resizing import PixelParts

from ..support.common import drawn_charts, tiny, trainer
from ..support.prepared import run_prepared

ONE, OTHER = "1" * 32, "2" * 32


def picture(seed: int, height: int = 8, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Maker:
    """Makes a picture, and counts how often it had to."""

    def __init__(self, seed: int = 0, **size: int):
        self.picture, self.calls = picture(seed, **size), 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return self.picture


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def kept(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def test_a_picture_is_made_once_and_named_by_digests_alone(tmp_path):
    make = Maker(height=5, width=7)
    for _ in range(3):
        cache = ChartCache(tmp_path, 10**6)
        found = cache.picture(ONE, [b"file", b"../../outside"], make)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, make.picture)
    assert make.calls == 1
    (entry,) = files(tmp_path)
    settings, part, name = entry.relative_to(tmp_path).parts
    assert (settings, len(part), len(name)) == (ONE, 2, 38)
    assert set(part + name) <= set("0123456789abcdef")


def test_another_image_and_other_settings_are_other_entries(tmp_path):
    cache = ChartCache(tmp_path, 10**6)
    makers = [Maker(seed) for seed in range(3)]
    for _ in range(2):
        for (settings, content), make in zip([(ONE, b"a"), (ONE, b"b"), (OTHER, b"a")], makers, strict=True):
            np.testing.assert_array_equal(cache.picture(settings, [content], make), make.picture)
    assert [make.calls for make in makers] == [1, 1, 1]


def damages(data: bytes) -> dict[str, bytes]:
    changed = bytearray(data)
    changed[-1] ^= 1
    wide = bytearray(data)
    wide[40] ^= 2  # the height
    huge = data[:40] + b"\xff" * 8 + data[48:]
    return {
        "empty": b"",
        "cut off": data[:-1],
        "cut off in the header": data[:20],
        "a bit of the picture": bytes(changed),
        "its height": bytes(wide),
        "a size of 10^18": huge,
        "something else": b"no entry at all" * 10,
    }


@pytest.mark.parametrize("damage", damages(bytes(100)))
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    make = Maker()
    cache = ChartCache(tmp_path, 10**6)
    cache.picture(ONE, [b"a"], make)
    (entry,) = files(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damages(whole)[damage])
    np.testing.assert_array_equal(cache.picture(ONE, [b"a"], make), make.picture)
    assert make.calls == 2
    assert entry.read_bytes() == whole


def test_an_entry_under_another_name_is_no_entry(tmp_path):
    cache = ChartCache(tmp_path, 10**6)
    first, second = Maker(0), Maker(1)
    cache.picture(ONE, [b"a"], first)
    (a,) = files(tmp_path)
    cache.picture(ONE, [b"b"], second)
    (b,) = set(files(tmp_path)) - {a}
    b.write_bytes(a.read_bytes())
    np.testing.assert_array_equal(cache.picture(ONE, [b"b"], second), second.picture)
    assert second.calls == 2


def size_of_one(tmp_path: Path) -> int:
    ChartCache(tmp_path / "one", 10**6).picture(ONE, [b"a"], Maker())
    return kept(tmp_path / "one")


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_full_folder_keeps_what_is_in_use(tmp_path):
    bound = 4 * size_of_one(tmp_path)
    folder = tmp_path / "charts"
    makers = [Maker(seed) for seed in range(7)]
    for epoch in range(3):
        cache = ChartCache(folder, bound)
        for number, make in enumerate(makers):
            np.testing.assert_array_equal(cache.picture(ONE, [bytes([number])], make), make.picture)
            assert kept(folder) <= bound
        assert [make.calls for make in makers] == [1] * 4 + [epoch + 1] * 3


def test_what_was_not_used_for_longest_goes_first_other_settings_before_all(tmp_path):
    bound = 4 * size_of_one(tmp_path)
    folder = tmp_path / "charts"
    cache = ChartCache(folder, bound)
    entries = {}
    for name, settings, days in [("own", ONE, 30), ("own new", ONE, 1), ("other", OTHER, 1), ("other old", OTHER, 3)]:
        known = set(files(folder))
        cache.picture(settings, [name.encode()], Maker())
        (entries[name],) = set(files(folder)) - known
        age(entries[name], days * 86400)
    gone = []
    for number in range(5):
        ChartCache(folder, bound).picture(ONE, [b"new", bytes([number])], Maker(number))
        assert kept(folder) <= bound
        gone.append([name for name, path in entries.items() if not path.exists()])
    assert gone == [
        ["other old"],
        ["other", "other old"],
        ["own", "other", "other old"],
        ["own", "other", "other old"],  # used a day ago, or just now: nothing goes
        ["own", "other", "other old"],
    ]


def test_reading_an_old_entry_makes_it_young(tmp_path):
    cache = ChartCache(tmp_path, 10**6)
    cache.picture(ONE, [b"a"], Maker())
    (entry,) = files(tmp_path)
    age(entry, 86400)
    cache.picture(ONE, [b"a"], Maker())
    assert time.time() - entry.stat().st_mtime < 600


def test_other_runs_at_work_and_other_files_are_left_alone(tmp_path):
    bound = 2 * size_of_one(tmp_path)
    folder = tmp_path / "charts"
    for number in range(2):
        ChartCache(folder, bound).picture(OTHER, [bytes([number])], Maker(number))
    ours = [
        folder / "notes.txt",
        folder / ONE / "ab" / "mine.tmp",
        folder / "photos" / "ab" / ("c" * 38),
        folder / ONE / "photos" / ("c" * 38),
    ]
    left = [folder / ONE / "ab" / name for name in ("unfinished-x.tmp", f"{'c' * 38}.0123abcd.part")]
    for path in [*ours, *left]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        age(path, 10**8)
    theirs = set(files(folder / OTHER))
    ChartCache(folder, bound).picture(ONE, [b"a"], Maker())
    assert set(files(folder)) == theirs | set(ours)  # only what a killed process left went


def test_a_full_disk_costs_one_warning_and_no_chart(tmp_path, monkeypatch, caplog):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache, make = ChartCache(tmp_path, 10**6), Maker()
    cache.picture(ONE, [b"before"], Maker(1))
    monkeypatch.setattr(os, "replace", full)
    for number in range(3):
        np.testing.assert_array_equal(cache.picture(ONE, [bytes([number])], make), make.picture)
    pickle.loads(pickle.dumps(cache)).stop_writing("a copy knows that it was said")
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"resized charts are no longer cached in {tmp_path}, training continues: [Errno 28]")
    assert len(files(tmp_path)) == 1  # nothing unfinished
    before = Maker(1)
    cache.picture(ONE, [b"before"], before)
    assert before.calls == 0


def test_half_of_the_free_disk_is_the_most(tmp_path, monkeypatch):
    size = size_of_one(tmp_path)
    monkeypatch.setattr(chart_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * size})())
    cache = ChartCache(tmp_path / "one", 64 * 10**6)
    for number in range(3):
        cache = ChartCache(tmp_path / "one", 64 * 10**6)
        cache.picture(ONE, [bytes([number])], Maker(number))
    assert kept(tmp_path / "one") == 4 * size  # a disk that says so for ever: one more each time
    monkeypatch.setattr(chart_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": size})())
    ChartCache(tmp_path / "one", 64 * 10**6).picture(ONE, [b"x"], Maker())
    assert kept(tmp_path / "one") == 4 * size


def test_a_folder_that_cannot_be_made_is_named_once(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    cache = open_chart_cache(str(tmp_path / "file" / "charts"), 1.0, 10**6)
    make = Maker()
    for _ in range(2):
        np.testing.assert_array_equal(cache.picture(ONE, [b"a"], make), make.picture)
    assert len(caplog.records) == 1
    assert str(tmp_path / "file" / "charts") in caplog.text


def test_what_a_user_chooses(tmp_path, monkeypatch):
    assert open_chart_cache("off", 1.0, 10**6) is None
    assert open_chart_cache("auto", 1.0, 96 * 96) is None
    monkeypatch.chdir(tmp_path)
    assert open_chart_cache("charts", 0.5, 96 * 96) == ChartCache(tmp_path / "charts", 5 * 10**8)
    assert open_chart_cache("auto", 1.0, 960 * 960).folder == Path(HF_HOME) / "chartqa_ft" / "charts"


WRITER = """
import sys
from pathlib import Path
import numpy as np
from chartqa_ft.images.cache import ChartCache

cache = ChartCache(Path(sys.argv[1]), int(sys.argv[2]))
for turn in range(3):
    for number in range(60):
        wanted = np.full((16, 16, 3), number, dtype=np.uint8)
        assert np.array_equal(cache.picture("1" * 32, [bytes([number])], lambda: wanted), wanted)
print("done")
"""


@pytest.mark.parametrize("bound", [10**6, 2000])
def test_two_processes_write_the_same_charts(tmp_path, bound):
    said = run_prepared(["-c", WRITER, tmp_path, str(bound)], 2).stdout
    assert sorted(said.replace("\n", "")) == sorted("donedone")  # the two may write into each other's lines
    entries = files(tmp_path)
    assert not [path for path in entries if path.name.endswith(".part")]
    assert len(entries) == 60 if bound == 10**6 else 0 < len(entries) < 60
    # each process knows its own: together they are at most one step and one entry each above the bound
    assert kept(tmp_path) <= bound + 2 * (bound // 64 + entries[0].stat().st_size)


def records(images) -> list[dict]:
    return [{"image": image, "question": "What?", "answer": "1", "chart_id": str(n)} for n, image in enumerate(images)]


def test_a_chart_that_is_kept_is_neither_decoded_nor_resized(tmp_path, monkeypatch):
    model, processor = tiny()
    adapter = adapter_for(model, processor)
    Image.fromarray(picture(1, 30, 40)).save(tmp_path / "chart.png")
    content = (tmp_path / "chart.png").read_bytes()
    forms = {
        "path": [
            str(tmp_path / "chart.png"),
            tmp_path / "chart.png",
            {"bytes": None, "path": str(tmp_path / "chart.png")},
        ],
        "bytes": [{"bytes": content, "path": None}],
        "pixels": [Image.fromarray(picture(1, 30, 40)), picture(1, 30, 40)],
    }
    plain = ChartQACollator(adapter)(records([tmp_path / "chart.png"]))["pixel_values"]
    collate = ChartQACollator(adapter, raw_charts=True, chart_cache=ChartCache(tmp_path / "charts", 10**6))
    for images in forms.values():
        assert torch.equal(adapter.to_float(collate(records(images[:1]))["pixel_values"]), plain)
    assert len(files(tmp_path / "charts")) == 2  # files and bytes are one, decoded pixels another

    def fail(*args, **kwargs):
        raise AssertionError("it was resized again")

    monkeypatch.setattr(PixelParts, "resized", fail)
    for images in forms.values():
        assert torch.equal(
            adapter.to_float(collate(records(images))["pixel_values"]), plain.expand(len(images), -1, -1, -1)
        )
    monkeypatch.setattr(Image, "open", fail)
    for images in (forms["path"], forms["bytes"]):
        assert torch.equal(adapter.to_float(collate(records(images[:1]))["pixel_values"]), plain)


def test_other_settings_and_another_content_find_no_old_chart(tmp_path):
    model, processor = tiny()
    processor = copy.deepcopy(processor)
    adapter = adapter_for(model, processor)
    path = tmp_path / "chart.png"
    collate = ChartQACollator(adapter, raw_charts=True, chart_cache=ChartCache(tmp_path / "charts", 10**7))

    def check(entries: int) -> None:
        for _ in range(2):
            pixels = adapter.to_float(collate(records([path]))["pixel_values"])
            assert torch.equal(pixels, ChartQACollator(adapter)(records([path]))["pixel_values"])
        assert len(files(tmp_path / "charts")) == entries

    Image.fromarray(picture(1, 50, 70)).save(path)
    check(1)
    Image.fromarray(picture(2, 50, 70)).save(path)
    check(2)
    set_image_cost(model, processor, image_size=192)
    check(3)
    processor.image_processor.resample = 3
    check(4)
    processor.image_processor.size = {"height": 192, "width": 288}
    check(5)
    processor.image_processor.do_thumbnail = False  # portraits fit no more: such a processor does not come apart
    check(5)


def run(folder: Path, choice: str, **changes):
    settings = {"max_steps": 6, "random_padding": True, "chart_cache": choice, "save_steps": 3, **changes}
    made = trainer(folder, save_strategy="steps", eval_dataset=drawn_charts(4, seed=2), **settings)
    return made


def losses(trained) -> list[float]:
    return [log["loss"] for log in trained.state.log_history if "loss" in log]


def test_a_resumed_run_with_a_cache_sees_the_same_pixels(tmp_path):
    charts = str(tmp_path / "charts")
    plain, first, later, resumed = (
        run(tmp_path / name, choice, dataloader_num_workers=workers)
        for name, choice, workers in [
            ("plain", "off", 0),
            ("first", charts, 2),
            ("later", charts, 1),
            ("first", charts, 0),
        ]
    )
    plain.train()
    assert plain._collators["train"].chart_cache is None
    for trained in (first, later):
        trained.train()
        assert losses(trained) == losses(plain)
    resumed.train(str(tmp_path / "first" / "checkpoint-3"))
    assert losses(resumed) == losses(plain)
    assert resumed.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    # every chart once, for training and evaluation together
    unique = {
        bytes(row["image"]["bytes"])
        for part in (drawn_charts(), drawn_charts(4, seed=2))
        for row in part.cast_column("image", datasets.Image(decode=False))
    }
    assert len(files(tmp_path / "charts")) == len(unique)


def test_the_folder_is_named_on_no_card_and_in_no_pushed_file(tmp_path):
    made = run(tmp_path / "out", str(tmp_path / "my charts"), max_steps=1, save_steps=1)
    made.train()
    made.save_model(str(tmp_path / "saved"))
    for path in [*files(tmp_path / "out"), *files(tmp_path / "saved")]:
        assert b"my charts" not in path.read_bytes(), path
        assert "chart_cache" not in path.read_text(errors="replace")
    assert not {"chart_cache", "chart_cache_gb"} & set(made.args.to_sanitized_arguments())


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="chart_cache_gb must be a number above 0, got 0: to keep no charts, use chart_cache='off'"
    ):
        trainer(tmp_path, chart_cache_gb=0)
    with pytest.raises(ValueError, match="chart_cache must be a folder, 'auto' or 'off'"):
        trainer(tmp_path, chart_cache="")
    adapter = adapter_for(*tiny())
    with pytest.raises(ValueError, match="chart_cache keeps charts before rescaling: it needs raw_charts=True"):
        ChartQACollator(adapter, chart_cache=ChartCache(tmp_path, 1))
