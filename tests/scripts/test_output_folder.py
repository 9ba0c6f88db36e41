"""What a script writes to is checked before the work whose results it gets."""

from __future__ import annotations

import pytest

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.scripts import ModelArguments, ScriptParser
from chartqa_ft.scripts.cli import main
from chartqa_ft.scripts.evaluate_served import ServedArguments
from chartqa_ft.scripts.running import checkpoint_to_resume

from ..support.launching import EVALUATE, example

EvaluationArguments = example(EVALUATE).EvaluationArguments
SERVED = {"base_url": "http://localhost:1/v1", "model": "m"}


def evaluation(script, output_dir):
    given = SERVED if script is ServedArguments else {"model_name_or_path": "m"}
    return script(**given, output_dir=str(output_dir))


@pytest.mark.parametrize("script", [EvaluationArguments, ServedArguments])
def test_a_tilde_is_the_home_folder(script, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert evaluation(script, "~/scores").output_dir == str(tmp_path / "scores")
    (tmp_path / "run.yaml").write_text("\n".join(f"{k}: {v}" for k, v in (*SERVED.items(), ("output_dir", "~/a"))))
    if script is ServedArguments:
        assert ScriptParser(script).parse([str(tmp_path / "run.yaml")])[0].output_dir == str(tmp_path / "a")


@pytest.mark.parametrize("script", [EvaluationArguments, ServedArguments])
@pytest.mark.parametrize("below", ["", "scores"])
def test_a_file_is_no_folder(script, below, tmp_path):
    (tmp_path / "afile").touch()
    with pytest.raises(ValueError, match=r"output_dir must be a folder, and .*afile is a file"):
        evaluation(script, tmp_path / "afile" / below)
    args = ChartQATrainingArguments(output_dir=str(tmp_path / "afile" / below), use_cpu=True)
    with pytest.raises(SystemExit, match=r"error: --output_dir must be a folder, and .*afile is a file"):
        checkpoint_to_resume(args)


@pytest.mark.parametrize("beams", [0, -1])
def test_beams_of_the_final_evaluation_are_counted_from_one(beams):
    with pytest.raises(ValueError, match=f"--final_num_beams must be at least 1, got {beams}"):
        ModelArguments(final_num_beams=beams)


def test_reports_and_exports_are_written_to_the_home_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    row = '{"index": 0, "chart_id": "a", "question": "Q?", "answer": "1", "prediction": "1", "correct": 1.0, '
    (tmp_path / "predictions.jsonl").write_text(f'{row}"source": "human"}}\n')
    main(["report", "~/predictions.jsonl", "--output=~/new/report.html"])
    main(["export", "~", "--format=vlmevalkit", "--output=~/new/a.tsv"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.tsv", "report.html"]
    assert not (tmp_path / "~").exists()
