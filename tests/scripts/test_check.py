"""`chartqa-ft check`: which script or model it means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chartqa_ft.scripts import check


@pytest.fixture
def called(monkeypatch):
    """Calls of the modules that the command hands over to: (module, line, settings)."""
    calls = []

    def module(name):
        return SimpleNamespace(main=lambda line, **settings: calls.append((name.rpartition(".")[2], line, settings)))

    monkeypatch.setattr(check, "import_module", module)
    return calls


@pytest.mark.parametrize(
    ("line", "script"),
    [
        (["finetune_vlm_lora", "--lora_r", "8"], "finetune_vlm_lora"),
        (["--output_dir", "out"], "finetune_unichart"),
        (["--dataset_name", "questions.csv"], "finetune_own_data"),
        (["--seed", "1", "--dataset_name=questions.csv"], "finetune_own_data"),
        (["--dataset_name", "HuggingFaceM4/ChartQA"], "finetune_unichart"),
        (["run.yaml"], "finetune_unichart"),
        (["own.yaml"], "finetune_own_data"),
        (["own.yaml", "--dataset_name", "HuggingFaceM4/ChartQA"], "finetune_unichart"),
        (["finetune_own_data", "run.yaml", "--seed", "1"], "finetune_own_data"),
    ],
)
def test_a_training_is_shown_and_not_run(called, tmp_path, monkeypatch, line, script):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.csv").touch()
    (tmp_path / "own.yaml").write_text("seed: 1\ndataset_name: questions.csv\n")
    assert check.main(line) is None
    rest = line[1:] if line[0] == script else line
    assert called == [(script, [*rest, "--check", "True"], {"program": f"chartqa-ft check {script}"})]


def test_a_model_alone_is_checked_itself(called):
    check.main(["alice/model", "--device", "cpu"])
    assert called == [("check_model", ["alice/model", "--device", "cpu"], {})]


@pytest.mark.parametrize(("line", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_help_names_the_scripts(called, capsys, line, code):
    with pytest.raises(SystemExit) as stopped:
        check.main(line)
    assert stopped.value.code == code
    assert "finetune_vlm_lora" in capsys.readouterr().out
    assert called == []
