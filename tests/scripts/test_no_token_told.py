"""No word of an error, of a log or of an object tells a token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.scripts import parse
from chartqa_ft.scripts.arguments import DataArguments, ModelArguments

TOKEN = "hf_" + "abcdefghij" * 3
OPAQUE = "opaque-secret-0123"


@dataclass
class Script(DataArguments, ModelArguments):
    pass


def refused(capsys, *line: str) -> str:
    """What the command line says of arguments that it does not take."""
    with pytest.raises(SystemExit) as stopped:
        parse(line, Script, description="")
    assert stopped.value.code == 2
    return capsys.readouterr().err.rpartition("error: ")[2].strip()


# ---------------------------------------------------------------- arguments
@dataclass
class Derived(ChartQATrainingArguments):
    more: int = 1


@pytest.mark.parametrize("kind", [ChartQATrainingArguments, Derived])
def test_arguments_show_no_token(kind, tmp_path):
    args = kind(output_dir=str(tmp_path), hub_token=OPAQUE, use_cpu=True, report_to="none")
    assert args.hub_token == OPAQUE
    assert "learning_rate=5e-05" in repr(args)
    for text in (repr(args), str(args), f"{[args]}", str(args.to_sanitized_arguments())):
        assert OPAQUE not in text


# ---------------------------------------------------------------- command line and YAML
def test_a_misspelt_argument_is_named_without_its_value(capsys):
    line = ["--output_dir", "out", "--hub_tokn", OPAQUE, f"--hub_tkn={OPAQUE}", "--use_cpu"]
    assert refused(capsys, *line) == (
        "unknown arguments: --hub_tokn (did you mean --hub_token?), --hub_tkn (did you mean --hub_token?)"
    )


def test_values_in_a_wrong_place_are_no_tokens(capsys, monkeypatch):
    assert (
        refused(capsys, "--max_steps", TOKEN) == "argument --max_steps/--max-steps: invalid int value: 'TOKEN_REMOVED'"
    )
    line = ["--output_dir", "out", "--use_cpu"]
    assert refused(capsys, TOKEN, *line) == "TOKEN_REMOVED is not the value of any argument"
    assert refused(capsys, "train.csv", *line) == "train.csv is not the value of any argument"
    assert TOKEN not in refused(capsys, *line, "--push_to_hub", TOKEN)
    monkeypatch.setenv("HF_TOKEN", OPAQUE)
    assert OPAQUE not in refused(capsys, *line, "--metric_variant", OPAQUE)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'hub_model_id: a/b\nhub_token: "{OPAQUE}\n', "line 2, column 12 to line 3, column 1"),
        (f"hub_token: *{OPAQUE}\n", "line 1, column 12"),
        (f"hub_token: !{OPAQUE} x\n", "line 1, column 12"),
        (f"hub_token: [{OPAQUE}\nseed: 1", "line 1, column 12 to line 2, column 5"),
    ],
)
def test_a_file_that_is_no_yaml_is_told_by_its_place(capsys, tmp_path, text, place):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    said = refused(capsys, str(file))
    assert said == f"{file} cannot be read: it is not valid YAML: see {place}"


def test_a_misspelt_argument_in_yaml_is_named_without_its_value(capsys, tmp_path):
    file = Path(tmp_path) / "run.yaml"
    file.write_text(f"output_dir: out\nhub_tokn: {OPAQUE}\nuse_cpu: true\n")
    assert refused(capsys, str(file)) == "unknown arguments: --hub_tokn (did you mean --hub_token?)"
