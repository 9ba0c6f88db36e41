"""The curves of a training run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.hub.card.render import render_card
from chartqa_ft.reporting import curve as curves

from ..hub.card.examples import LOG, facts


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
