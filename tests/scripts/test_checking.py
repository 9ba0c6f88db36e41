"""`--check` of the scripts: what would be trained is shown, and whether it is trained."""

from __future__ import annotations

import pytest

from chartqa_ft.scripts import ModelArguments, ScriptParser, checking
from chartqa_ft.scripts.checking import goes_on
from chartqa_ft.training.preflight.measuring import MeasuredStep

from ..support.common import drawn_charts, trainer
from ..support.launching import (
    FINETUNE,
    LORA,
    OWN,
    QUICK,
    as_command_line,
    example,
    save_family,
    save_tiny,
    write_original_layout,
)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ([], "auto"),
        (["--check"], "True"),
        (["--check", "True"], "True"),
        (["--check", "yes"], "True"),
        (["--check", "False"], "False"),
        (["--check=false"], "False"),
        (["--check", "auto"], "auto"),
        (["--check", "--compat", "False"], "True"),
    ],
)
def test_values_of_the_command_line(line, value):
    (script,) = ScriptParser(ModelArguments).parse(line)
    assert script.check == value


def test_other_values_are_refused(capsys):
    with pytest.raises(SystemExit):
        ScriptParser(ModelArguments).parse(["--check", "only"])
    assert "--check must be True, False or auto, got 'only'" in capsys.readouterr().err


@pytest.mark.parametrize("path", [FINETUNE, LORA, OWN], ids=lambda path: path.stem)
def test_check_shows_and_ends(tmp_path, capsys, path):
    settings = {**QUICK, "output_dir": tmp_path / "out"}
    if path == OWN:
        drawn_charts(4).to_parquet(tmp_path / "own.parquet")
        settings["dataset_name"] = tmp_path / "own.parquet"
    else:
        splits = {"train": drawn_charts(4), "val": drawn_charts(4, seed=7)}
        settings["dataset_name"] = write_original_layout(tmp_path / "data", **splits)
    model = save_family("llava", tmp_path / "model") if path == LORA else save_tiny(tmp_path / "model")
    line = [*as_command_line({**settings, "model_name_or_path": model}), *(["--merge"] if path == LORA else [])]
    assert example(path).main([*line, "--check"]) == {}
    shown = capsys.readouterr().out
    for line in ("questions on", "the first batch", "image tokens", "evaluation charts", "a step takes", "until 20"):
        assert line in shown
    assert [file.name for file in (tmp_path / "out").iterdir()] == []


def test_a_refused_training_ends_with_an_error(tmp_path, capsys):
    run = trainer(tmp_path, eval_dataset=drawn_charts(), warmup_steps=5)
    with pytest.raises(SystemExit) as stopped:
        goes_on(run, "True")
    assert stopped.value.code == "error: the training would be refused, see above"
    assert "error: --warmup_steps 5 does not end within the 1 steps of the run" in capsys.readouterr().out


STEP = MeasuredStep(
    rows=4,
    read_seconds=0.0,
    compute_seconds=1.0,
    batches=1,
    steps=1801,
    reads_beside=False,
    peak_bytes=None,
    total_bytes=None,
)


@pytest.mark.parametrize(
    ("seconds", "resumed", "shows"), [(1.0, False, True), (0.9, False, False), (1.0, True, False)]
)
def test_auto_shows_before_long_trainings(tmp_path, capsys, monkeypatch, seconds, resumed, shows):
    step = MeasuredStep(**{**vars(STEP), "compute_seconds": seconds})
    monkeypatch.setattr(checking, "measured_step", lambda run: step)
    run = trainer(tmp_path, max_steps=1801, eval_dataset=drawn_charts())
    assert goes_on(run, "auto", resumed=resumed)
    shown = capsys.readouterr().out
    assert ("8 of 8 evaluation charts" in shown) is shows
    assert ("1,801 steps take about 30 minutes" in shown) is shows


def test_short_trainings_are_not_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checking, "measured_step", None)
    assert goes_on(trainer(tmp_path, max_steps=100), "auto")
    assert goes_on(trainer(tmp_path, max_steps=10_000), "False")
    assert capsys.readouterr().out == ""


def test_what_cannot_be_measured_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checking, "measured_step", lambda run: None)
    assert goes_on(trainer(tmp_path, max_steps=10_000), "auto")
    assert capsys.readouterr().out == ""


def test_charts_that_are_trained_on_and_evaluated_are_counted_once(tmp_path, caplog):
    records = drawn_charts()
    same = trainer(tmp_path, eval_dataset=records.select(range(5)))
    assert goes_on(same)
    told = [message for message in caplog.messages if "in the training data too" in message]
    charts = len(set(records["chart_id"][:5]))
    assert told == [
        f"{charts} of {charts} evaluation charts are in the training data too: leave them out of one of the two, "
        "because the score is to tell about new charts"
    ]
    caplog.clear()
    assert goes_on(same, resumed=True)
    assert goes_on(trainer(tmp_path, eval_dataset=drawn_charts(4, seed=7)))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
