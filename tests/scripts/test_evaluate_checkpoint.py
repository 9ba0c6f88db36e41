"""evaluate_checkpoint.py takes the arguments of the training scripts, and the names that it had before."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from chartqa_ft import ChartQATrainingArguments, read_predictions
from chartqa_ft.scripts import DataArguments, ModelArguments, ScriptParser, load_split

from ..data.test_load import PRO, PRO_ROWS
from ..support.common import drawn_charts
from ..support.launching import EVALUATE, answers, as_command_line, example, report, save_tiny, write_original_layout

NEW = {
    "eval_split": "val",
    "max_eval_samples": 4,
    "per_device_eval_batch_size": 2,
    "generation_num_beams": 1,
    "generation_max_new_tokens": 5,
    "metric_variant": "lenient",
    "dataloader_num_workers": 0,
}
REQUIRED = {"model_name_or_path": "m", "output_dir": "out"}
OLD = dict(
    zip(
        ("split", "max_samples", "batch_size", "num_beams", "max_new_tokens", "variant", "num_workers"),
        NEW.values(),
        strict=True,
    )
)


def parse(line: list[str]) -> dict[str, Any]:
    module = example(EVALUATE)
    (script,) = ScriptParser(module.EvaluationArguments, aliases=module.OLD_NAMES).parse(line)
    return dataclasses.asdict(script)


def test_old_names_mean_the_new_ones_on_the_command_line_and_in_yaml(tmp_path, caplog):
    base = {"model_name_or_path": "m", "output_dir": "out"}
    new = parse(as_command_line({**base, **NEW}))
    assert {name: new[name] for name in NEW} == NEW
    assert caplog.text == ""
    assert parse(as_command_line({**base, **OLD})) == new
    (warning,) = caplog.messages
    assert warning.startswith("Some arguments have new names: use --eval_split instead of --split, --max_eval_samples")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**base, **OLD}))
    assert parse([str(file)]) == new
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_names_and_defaults_are_those_of_the_training_scripts():
    """Only the split differs: papers report the test split."""
    known = {field.name: field.default for field in dataclasses.fields(ChartQATrainingArguments)}
    known |= {
        field.name: field.default for shared in (DataArguments, ModelArguments) for field in dataclasses.fields(shared)
    }
    fields = {field.name: field.default for field in dataclasses.fields(example(EVALUATE).EvaluationArguments)}
    assert fields.pop("run_programs") is False  # training scores answers, not programs
    assert fields.pop("chartqapro_prompts") is None  # ChartQAPro has a test split alone
    assert fields.pop("metric_variant") is None  # it depends on chartqapro_prompts
    assert example(EVALUATE).EvaluationArguments(**REQUIRED).metric_variant == known["metric_variant"]
    assert {name for name, default in fields.items() if default != known[name]} == {
        "eval_split",
        "model_name_or_path",
        "output_dir",
    }
    assert fields["eval_split"] == "test"


@pytest.mark.parametrize("name", ["train_split", "max_train_samples", "learning_rate"])
def test_arguments_of_training_alone_are_refused(name, capsys):
    with pytest.raises(SystemExit):
        parse(["--model_name_or_path", "m", "--output_dir", "out", f"--{name}", "1"])
    assert f"unknown arguments: --{name}" in capsys.readouterr().err


def test_a_part_of_a_split_is_the_part_that_training_scripts_draw(tmp_path):
    records = drawn_charts()
    data = write_original_layout(tmp_path / "data", val=records)
    settings = {"model_name_or_path": save_tiny(tmp_path / "tiny"), "dataset_name": data, "use_cpu": True, **NEW}
    example(EVALUATE).main(as_command_line({**settings, "output_dir": tmp_path / "scores"}))
    script = DataArguments(dataset_name=str(data))
    seed = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True).seed
    drawn = load_split(script, "val", max_samples=4, seed=seed)
    assert [row["question"] for row in answers(tmp_path / "scores")] == list(drawn["question"])
    assert drawn["question"] != load_split(script, "val", max_samples=4, seed=0)["question"]
    recorded = report(tmp_path / "scores")["arguments"]
    assert {name: recorded[name] for name in NEW} == NEW


# ---------------------------------------------------------------------------------------------------- ChartQAPro
@pytest.mark.parametrize(
    ("style", "more", "expected"),
    [
        ("direct", {}, (None, "chartqapro_official", "{question}")),
        ("cot", {"metric_variant": "chartqapro"}, ("answer_is", "chartqapro", "{question}")),
        ("direct", {"metric_variant": "pix2struct"}, (None, "pix2struct", "{question}")),
        (
            "cot",
            {"metric_extract": "boxed", "prompt": "<|{question}|>"},
            ("boxed", "chartqapro_official", "<|{question}|>"),
        ),
        ("pot", {"run_programs": True}, ("program", "chartqapro_official", "{question}")),
    ],
)
def test_the_prompts_of_chartqapro_choose_what_is_unset(style, more, expected):
    found = parse(as_command_line({**REQUIRED, "chartqapro_prompts": style, **more}))
    assert (found["metric_extract"], found["metric_variant"], found["prompt"]) == expected


@pytest.mark.parametrize(("style", "said"), [("pot", "add --run_programs"), ("CoT", "must be direct, cot, pot")])
def test_wrong_prompts_of_chartqapro(style, said, capsys):
    with pytest.raises((SystemExit, ValueError)) as stopped:
        parse(as_command_line({**REQUIRED, "chartqapro_prompts": style}))
    assert said in f"{stopped.value} {capsys.readouterr().err}"


def test_chartqapro_from_its_file_to_its_scores(tmp_path):
    """Scores by question type and overall, of questions that are asked by the published prompts."""
    file = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(PRO_ROWS, PRO), file)
    model = save_tiny(tmp_path / "tiny")
    settings = {"model_name_or_path": model, "dataset_name": file, "output_dir": tmp_path / "out", "use_cpu": True}
    settings |= {"chartqapro_prompts": "cot", "generation_num_beams": 1, "generation_max_new_tokens": 2}
    metrics = example(EVALUATE).main(as_command_line(settings))
    types = ("factoid", "conversational", "fact_checking")
    assert [metrics[f"eval_n_type_{name}"] for name in types] == [1, 1, 1]
    scores = [metrics[f"eval_relaxed_accuracy_type_{name}"] for name in types]
    assert metrics["eval_relaxed_accuracy"] == pytest.approx(sum(scores) / 3)
    rows = read_predictions(tmp_path / "out" / "predictions.jsonl")
    assert all("You need to think step-by-step" in row["question"] for row in rows)
    assert all(row["extracted"] for row in rows)


@pytest.mark.parametrize("more", [["--on_error", "skip"], ["--on_bad_text", "skip"], []])
def test_questions_that_the_model_cannot_take_are_left_out_if_asked_for(tmp_path, more):
    records = drawn_charts().select(range(3))
    records = records.map(
        lambda row, number: {"question": f"{row['question']}</s>"} if number == 1 else {}, with_indices=True
    )
    records.to_parquet(tmp_path / "questions.parquet")
    line = [
        "--model_name_or_path",
        str(save_tiny(tmp_path / "tiny")),
        "--dataset_name",
        str(tmp_path / "questions.parquet"),
    ]
    line += ["--output_dir", str(tmp_path / "scores"), "--use_cpu", "--generation_max_new_tokens", "2", *more]
    if more:
        assert example(EVALUATE).main(line)["eval_n"] == 2
    else:
        with pytest.raises(SystemExit, match="--on_bad_text skip"):
            example(EVALUATE).main(line)


def test_questions_without_any_answer_are_asked(tmp_path, capsys):
    drawn_charts()[0]["image"].save(tmp_path / "a.png")
    (tmp_path / "questions.csv").write_text("image,question\na.png,Why?\na.png,Who?\n")
    line = [
        "--model_name_or_path",
        str(save_tiny(tmp_path / "tiny")),
        "--dataset_name",
        str(tmp_path / "questions.csv"),
    ]
    line += ["--output_dir", str(tmp_path / "scores"), "--use_cpu", "--generation_max_new_tokens", "2"]
    with pytest.raises(SystemExit, match="--require_answers False"):
        example(EVALUATE).main(line)
    example(EVALUATE).main([*line, "--require_answers", "False"])
    assert [row["question"] for row in answers(tmp_path / "scores")] == ["Why?", "Who?"]
    assert "none of the 2 questions has an answer to compare with" in capsys.readouterr().out
