"""The curves of a trainer."""

from __future__ import annotations

import pytest

from chartqa_ft.reporting.curve import draw_curve

from ..support.common import trainer

LOG = [{"step": 1, "loss": 2.0}, {"step": 2, "eval_relaxed_accuracy_human": 0.5}]


def test_plot_writes_the_curves_of_the_log(tmp_path, monkeypatch):
    made = trainer(tmp_path)
    with pytest.raises(ValueError, match="train or evaluate first"):
        made.plot()
    made.state.log_history = LOG
    assert made.plot() == tmp_path / "curves.png"
    assert (tmp_path / "curves.png").read_bytes() == draw_curve(LOG)
    assert made.plot(tmp_path / "other.png").read_bytes() == draw_curve(LOG)
    monkeypatch.setattr(made, "is_world_process_zero", lambda: False)
    assert made.plot(tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()
