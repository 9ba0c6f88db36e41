"""`examples/check_model.py`: a table on standard output, JSON on request, and an exit code for CI."""

from __future__ import annotations

import json

import pytest
import torch

from chartqa_ft import synthetic_chartqa
from chartqa_ft.scripts.check_model import main
from chartqa_ft.scripts.held_out import write_split
from chartqa_ft.training.model_check import check

from ..support.common import ROOT, tiny
from ..support.prepared import run_prepared

torch.set_num_threads(1)


@pytest.fixture
def checkpoint(tmp_path):
    for part in tiny():
        part.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_checkpoint_is_checked_on_own_data(checkpoint, tmp_path, capsys):
    synthetic_chartqa(2, seed=0).to_parquet(tmp_path / "charts.parquet")
    arguments = ["--model_name_or_path", checkpoint, "--data", str(tmp_path / "charts.parquet"), "--use_cpu", "--lora"]
    lines = ["training_batch", "peft_gradients"]
    assert main([*arguments, "--json", str(tmp_path / "check.json"), "--lines", *lines]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 checks passed" in printed.out
    assert "measuring: training batch reads back" in printed.err
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert [line["name"] for line in found["lines"]] == lines
    assert found["peft_weights"] == "peft_config"
    assert found["records"] == "5 questions of the given records"


def test_held_out_charts_alone_are_checked(checkpoint, tmp_path):
    records = synthetic_chartqa(3, seed=0)
    names = list(records["chart_id"])
    chart = names[-1]
    first = names.index(chart)
    records.select(range(first + 2)).to_parquet(tmp_path / "charts.parquet")  # two questions on the last chart
    held_out = write_split(tmp_path / "split.json", [chart])
    arguments = [checkpoint, "--data", str(tmp_path / "charts.parquet"), "--split_file", str(held_out), "--use_cpu"]
    assert main([*arguments, "--json", str(tmp_path / "check.json"), "--lines", "training_batch"]) == 0
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert found["records"] == "2 questions of the given records"


def test_a_failed_line_is_the_exit_code(checkpoint, monkeypatch, capsys):
    def fails(subject):
        raise ValueError("wrong masks")

    monkeypatch.setitem(check._CHECKS, "training_batch", fails)
    assert main([checkpoint, "--use_cpu", "--lines", "training_batch"]) == 1
    assert "ValueError: wrong masks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dtype", "int8"], "--dtype must be one of auto, float32"),
        (["--lines", "masks"], "unknown lines"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_arguments_end_in_one_line(checkpoint, arguments, said):
    with pytest.raises(SystemExit) as ended:
        main(["--model_name_or_path", checkpoint, "--use_cpu", *arguments])
    assert said in str(ended.value)
    assert "\n" not in str(ended.value).strip()


def test_the_example_runs_as_a_process(checkpoint):
    example = ROOT / "examples" / "check_model.py"
    found = run_prepared([example, "--model_name_or_path", checkpoint, "--use_cpu", "--lines", "training_batch"])
    assert "1 of 1 checks passed" in found.stdout
