"""The benchmark of a GPU runs on the CPU in tiny sizes, keeps to its time, and needs no `datasets`."""

from __future__ import annotations

import json
import signal
import sys

import pytest
import torch

from tests.benchmarks.gpu import __main__ as gpu
from tests.benchmarks.gpu import speed
from tests.benchmarks.gpu.report import GpuReport, PartResult
from tests.benchmarks.gpu.setting import Budget, Setting
from tests.benchmarks.test_benchmarks import Clock
from tests.support.common import run

TINY = ["--device", "cpu", "--tiny", "--runs", "1"]


def read(folder):
    return {part["name"]: part for part in json.loads((folder / "gpu.json").read_text())["parts"]}


@pytest.mark.long
def test_every_part_runs_in_tiny_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "is_installed", lambda name: name != "trl")  # which takes seconds to import
    assert gpu.main([*TINY, "--families", "unichart", "llava", "--out", str(tmp_path)]) == 0
    parts = read(tmp_path)
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(parts, "done")
    checks = {name: len(part["checks"]) for name, part in parts.items() if part["checks"]}
    assert checks == {
        **{"families": 6, "updates": 2, "levers": 20, "step 64 px": 1, "validation": 1, "answers": 2},
        **{"lora step": 1, "full step": 1, "compile": 2},
    }
    assert {name: len(part["rows"]) for name, part in parts.items() if part["rows"]} == {
        **{"step 64 px": 3, "validation": 1, "answers": 2, "lora step": 1, "full step": 1},
    }
    table = (tmp_path / "gpu.md").read_text()
    assert "## No GPU (a trial on the CPU)" in table
    assert "36 of 36 checks passed." in table
    assert "operations of our step at 64 px" in table


@pytest.mark.long
def test_packages_that_are_missing_are_stood_in_for(tmp_path):
    code = (
        "import sys; sys.modules['datasets'] = sys.modules['evaluate'] = None\n"
        "from tests.benchmarks.gpu.__main__ import MISSING, main\n"
        "import datasets\n"
        "assert MISSING == ['datasets', 'evaluate'] and not isinstance([], datasets.Dataset)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = [*TINY, "--parts", "updates", "--families", "llava", "--out", str(tmp_path)]
    run([sys.executable, "-c", code, *arguments])
    assert read(tmp_path)["updates"]["status"] == "done"


@pytest.fixture
def setting(tmp_path):
    return Setting(torch.device("cpu"), True, tmp_path, (), 1)


@pytest.fixture
def report(tmp_path):
    return GpuReport(tmp_path / "gpu.json", "a card", {}, machine="a machine")


def test_what_does_not_fit_the_time_is_left_out_with_a_word(setting, report):
    clock = Clock()
    budget = Budget(100.0, clock)

    def work(setting: Setting, part: PartResult) -> None:
        clock.spend(35.0)
        part.check("a figure", 0.0, 1.0)

    gpu.run_part(gpu.Part("first", 40.0, tuple((name, work) for name in "abc")), setting, budget, report)
    gpu.run_part(gpu.Part("second", 40.0, (("d", work),)), setting, budget, report)
    first, second = report.parts
    assert (first.status, first.word) == ("done", "1 of 3 left out, 30 s were left")
    assert (second.status, second.word, len(second.checks)) == ("left out", "1 of 1 left out, 30 s were left", 0)
    assert (
        "| second | left out: 1 of 1 left out, 30 s were left | 0 | - |" in report.path.with_suffix(".md").read_text()
    )


def test_a_run_ends_in_time_whatever_is_running(setting, report):
    budget = Budget(0.2)

    def work(setting: Setting, part: PartResult) -> None:
        part.check("a figure", 0.0, 1.0)
        signal.pause()

    with budget.kept():
        gpu.run_part(gpu.Part("first", 0.0, (("a", work), ("b", work))), setting, budget, report)
    gpu.run_part(gpu.Part("second", 0.0, (("c", work),)), setting, budget, report)
    first, second = report.parts
    assert (first.status, first.word, len(first.checks)) == ("left out", "stopped after 0.00333 minutes", 1)
    assert (second.status, len(second.checks)) == ("left out", 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_part_that_fails_does_not_end_the_run(setting, report):
    def fails(setting: Setting, part: PartResult) -> None:
        raise ValueError("no kernel image")

    def differs(setting: Setting, part: PartResult) -> None:
        part.check("losses", float("nan"), 1e-4)

    gpu.run_part(gpu.Part("first", 1.0, (("a", fails), ("b", differs))), setting, Budget(100.0), report)
    (part,) = report.parts
    assert (part.status, part.word) == ("failed", "2 of 2 checks: a: ValueError: no kernel image; losses")
    assert "ValueError: no kernel image" in part.notes[0]
    assert "0 of 2 checks passed." in report.table()


@pytest.mark.parametrize(("arguments", "message"), [(["--device", "cpu"], "needs --tiny"), ([], "torch finds no GPU")])
def test_a_run_without_a_gpu_is_refused(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert message in capsys.readouterr().err
