"""The commands that are printed at the end of a training score its model on charts that it was not trained on."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

from chartqa_ft.scripts import DataArguments
from chartqa_ft.scripts.next_steps import next_commands


def words(script, folder):
    return shlex.split(next_commands(script, folder)["score"])


def after(name, line):
    return line[line.index(name) + 1]


def test_the_test_split_follows_the_validation_split_and_others_stay(tmp_path):
    line = words(DataArguments(dataset_name="a b", column_map=["image=file", "question=q"]), tmp_path / "my out")
    assert line[:2] == ["chartqa-ft", "evaluate"]
    assert after("--dataset_name", line) == "a b"
    assert line[line.index("--column_map") :][:3] == ["--column_map", "image=file", "question=q"]
    assert after("--eval_split", line) == "test"
    assert after("--output_dir", line) == str(tmp_path / "my out" / "scores")
    assert after("--eval_split", words(DataArguments(eval_split="train[-8:]"), "out")) == "train[-8:]"
    assert next_commands(DataArguments(), "my out")["report"] == "chartqa-ft report 'my out'"
    own = SimpleNamespace(dataset_name="mine.csv", image_dir="my charts")
    assert next_commands(own, "out")["report"] == "chartqa-ft report out --images 'my charts'"
    assert list(next_commands(SimpleNamespace(report=True), "out")) == ["score"]


def test_answers_are_generated_and_scored_as_at_the_end_of_the_training():
    def line(script=None, **args):
        found = next_commands(script or SimpleNamespace(), "out", SimpleNamespace(**args))["score"]
        return found.removeprefix("chartqa-ft evaluate --model_name_or_path out ").removesuffix(
            "--output_dir out/scores"
        )

    own = {"generation_num_beams": 1, "metric_variant": "decimal_comma", "metric_extract": None}
    assert line(**own) == "--metric_variant decimal_comma --generation_num_beams 1 "
    assert line(generation_num_beams=4, generation_max_new_tokens=128, metric_variant="pix2struct") == ""
    assert line(metric_extract="boxed", metric_interval="clustered", generation_max_new_tokens=8) == (
        "--metric_extract boxed --metric_interval clustered --generation_max_new_tokens 8 "
    )
    assert line(SimpleNamespace(final_num_beams=2), generation_num_beams=1) == "--generation_num_beams 2 "
    assert line(SimpleNamespace(final_num_beams=4), generation_num_beams=1) == ""
    assert line(generation_num_beams=None) == ""


def test_own_data_is_scored_on_the_charts_that_were_held_out(tmp_path):
    own = SimpleNamespace(dataset_name="mine.csv", eval_data=None, split_file=None)
    assert "--split_file" not in words(own, tmp_path)
    (tmp_path / "split.json").write_text("[]")
    assert after("--split_file", words(own, tmp_path)) == str(tmp_path / "split.json")
    own.split_file = "other.json"
    assert after("--split_file", words(own, tmp_path)) == "other.json"
    assert words(own, tmp_path).count("--split_file") == 1
    own.eval_data = "scoring.csv"
    line = words(own, tmp_path)
    assert after("--dataset_name", line) == "scoring.csv"
    assert "--split_file" not in line
