"""The curves of a training run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.files import write_json
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.reporting import curve as curves
from chartqa_ft.reporting.training_log import accuracy_intervals, read_log

from ..hub.card.examples import LOG, facts
from ..support.cjk import require_cjk_font


def test_curves_are_those_of_the_log():
    losses, accuracies = curves.training_series(LOG)
    assert losses == {"training": [(10, 2.0), (30, 1.25)], "evaluation": [(20, 1.5)]}
    assert accuracies == {"pooled": [(20, 25.0)], "human": [(20, 12.5)], "own pooled": [(40, 50.0)]}


def test_the_picture_shows_each_curve_in_its_color():
    picture = Image.open(io.BytesIO(curves.draw_curve(LOG)))
    assert (picture.format, picture.size) == ("PNG", (880, 500))
    for top, count in ((0, 2), (250, 3)):
        panel = picture.crop((71, top + 38, 870, top + 205))
        colors = {color for _, color in panel.getcolors(1 << 20)}
        assert [color in colors for color in curves.COLORS] == [number < count for number in range(6)]
    assert curves.draw_curve(LOG) == curves.draw_curve(list(LOG))


@pytest.mark.parametrize("log", [[], [{"step": 1}], [{"loss": 1.0}], [{"step": 1, "loss": math.nan}]])
def test_nothing_to_draw(log):
    assert curves.draw_curve(log) is None
    assert "training_curve" not in render_card(facts(log_history=log))


def test_one_point_and_extreme_values_are_drawn():
    for log in ([{"step": 7, "loss": 0.0}], [{"step": 1, "loss": 1e-30}, {"step": 2, "loss": 1e30}]):
        assert Image.open(io.BytesIO(curves.draw_curve(log))).size == (880, 250)


def test_ticks_are_round_numbers():
    assert curves.ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert curves.ticks(130, 940) == [200, 400, 600, 800]
    assert curves.ticks(3.0, 3.0) == [3.0]


@pytest.mark.parametrize(
    ("history", "message"), [(None, "log_history must be a list"), ({}, "must be a list"), ([1], r"log_history\[0\]")]
)
def test_a_history_is_a_list_of_dicts(history: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        curves.draw_curve(history)


def test_numbers_of_any_library_are_drawn() -> None:
    history = [{"step": np.int64(3), "loss": np.float32(0.5), "grad_norm": np.zeros(2), "eval_loss": "0.1"}]
    assert curves.training_series(history) == ({"training": [(3, 0.5)]}, {})


def limits(step, low, high, name="human"):
    key = f"eval_relaxed_accuracy_{name}"
    return {"step": step, key: (low + high) / 2, f"{key}_ci_low": low, f"{key}_ci_high": high}


def test_intervals_are_those_of_the_log() -> None:
    log = [limits(20, 0.25, 0.5), limits(10, 0.125, 0.75), {"step": 30, "eval_relaxed_accuracy_human_ci_low": 0.5}]
    log += [limits(10, 0.5, math.nan, "augmented"), {"step": 10, "eval_own_relaxed_accuracy_ci_low": 0.25}]
    log += [{"step": 10, "eval_own_relaxed_accuracy_ci_high": 0.5}]
    assert accuracy_intervals(log) == {"human": [(10, 12.5, 75.0), (20, 25.0, 50.0)], "own pooled": [(10, 25.0, 50.0)]}
    assert curves.training_series(log)[1] == {"human": [(10, 43.75), (20, 37.5)]}


def test_an_interval_is_a_band_around_its_curve() -> None:
    band = Image.open(io.BytesIO(curves.draw_curve([limits(10, 0.25, 0.75), limits(20, 0.25, 0.75)])))
    bare = Image.open(io.BytesIO(curves.draw_curve([limits(10, 0.5, 0.5), limits(20, 0.5, 0.5)])))
    tint = tuple(round(255 + (part - 255) * 44 / 255) for part in curves.COLORS[0])
    column = [band.getpixel((500, y)) for y in range(38, 210)]
    inside = [y for y, color in enumerate(column) if max(abs(a - b) for a, b in zip(color, tint, strict=True)) <= 2]
    # The limits are 50 points apart, and the panel shows 8 % more at either end: 172 rows for 58 points.
    assert 172 * 50 / 58 - 12 < inside[-1] - inside[0] <= 172 * 50 / 58 + 1
    assert tint not in [bare.getpixel((500, y)) for y in range(38, 210)]


def test_every_curve_has_its_title_in_the_legend() -> None:
    log = [{"step": 1, **{f"eval_part{n}_relaxed_accuracy_human": 0.5 + n / 100 for n in range(12)}}]
    picture = Image.open(io.BytesIO(curves.draw_curve(log)))
    lines = (picture.height - 250) // 18
    assert lines >= 1
    legend = picture.crop((0, 0, 880, 38 + 18 * lines))
    found = {color: count for count, color in legend.getcolors(1 << 20)}
    # Twelve curves, six colors: each color twice.
    one = Image.open(io.BytesIO(curves.draw_curve([{"step": 1, "eval_part0_relaxed_accuracy_human": 0.5}])))
    alone = {color: count for count, color in one.crop((0, 0, 880, 38)).getcolors(1 << 20)}[curves.COLORS[0]]
    assert all(found[color] >= 1.8 * alone for color in curves.COLORS)


def test_titles_in_other_scripts_are_drawn() -> None:
    require_cjk_font()

    def drawn(name: str) -> bytes:
        return curves.draw_curve([{"step": 1, f"eval_{name}_loss": 0.5}])

    assert len({drawn(name) for name in ("中国", "日本", "Größe", "Grüße")}) == 4


def test_curves_of_a_run_are_found_in_its_folder(tmp_path) -> None:
    for step, loss in ((9, 2.0), (10, 1.0)):
        write_json(
            tmp_path / f"checkpoint-{step}" / "trainer_state.json", {"log_history": [{"step": step, "loss": loss}]}
        )
    (tmp_path / "checkpoint-11").mkdir()
    assert read_log(tmp_path) == [{"step": 10, "loss": 1.0}]
    assert read_log(tmp_path / "checkpoint-9") == read_log(tmp_path / "checkpoint-9" / "trainer_state.json")
    write_json(tmp_path / "trainer_state.json", {"log_history": LOG[:1]})
    assert read_log(tmp_path) == LOG[:1]
    path = curves.draw_curves(tmp_path, tmp_path / "new" / "curves.png")
    assert path.read_bytes() == curves.draw_curve(entry for entry in LOG[:1])


def test_a_run_without_curves_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no trainer_state"):
        curves.draw_curves(tmp_path, tmp_path / "curves.png")
    write_json(tmp_path / "trainer_state.json", {"log_history": "no list"})
    with pytest.raises(ValueError, match="has no log_history"):
        curves.draw_curves(tmp_path, tmp_path / "curves.png")
    with pytest.raises(ValueError, match="no loss and no relaxed accuracy"):
        curves.draw_curves([], tmp_path / "curves.png")
    with pytest.raises(TypeError, match="path must be"):
        curves.draw_curves(LOG, None)
    for run in (None, 7, {}):
        with pytest.raises(TypeError, match="log_history must be a list"):
            curves.draw_curves(run, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
