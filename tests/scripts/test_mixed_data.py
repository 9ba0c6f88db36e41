"""Several data sets on the command line of the training scripts."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.data import synthetic_chartqa
from chartqa_ft.data.splitting import content_of_charts
from chartqa_ft.scripts import DataArguments
from chartqa_ft.scripts.finetune_own_data import ScriptArguments, load
from chartqa_ft.scripts.loading import load_records
from chartqa_ft.scripts.next_steps import next_commands
from chartqa_ft.scripts.parsing import parse
from chartqa_ft.scripts.running import card_facts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two Parquet files of 6 and 2 charts, with 4 questions on each chart."""
    folder = tmp_path_factory.mktemp("data")
    for name, charts, seed in (("large", 6, 1), ("small", 2, 2)):
        records = synthetic_chartqa(charts, seed=seed)
        rows: dict[str, list[int]] = {}
        for row, chart in enumerate(records["chart_id"]):
            rows.setdefault(chart, []).append(row)
        chosen = [row for own in rows.values() for row in own[:4]]
        records.select(chosen).to_parquet(folder / f"{name}.parquet")
    return {path.stem: str(path) for path in folder.iterdir()}


def parsed(tmp_path, *line, script=DataArguments):
    return parse([*line, "--output_dir", str(tmp_path / "out"), "--use_cpu"], script, description=None)


def counts(files, train):
    home = {}
    for name, path in files.items():
        script = DataArguments(dataset_name=path, train_split="train", eval_split="train")
        args = ChartQATrainingArguments(output_dir="out", use_cpu=True, report_to="none")
        home.update(dict.fromkeys(content_of_charts(load_records(script, args)[0]), name))
    return Counter(home[content] for content in content_of_charts(train))


def test_data_sets_are_mixed_without_the_charts_of_the_evaluation(tmp_path, files):
    names = [files["large"], files["small"]]
    line = ["--eval_split", "train[:8]", "--dataset_weights", "1", "3"]
    script, args = parsed(tmp_path, "--dataset_name", *names, *line)
    assert (script.dataset_name, script.other_datasets) == (names[0], names[1:])
    train, evaluation = load_records(script, args)
    assert counts(files, train) == {"large": 16, "small": 48}
    assert not set(content_of_charts(train)) & set(content_of_charts(evaluation))
    assert len(evaluation) == 8
    again = load_records(*parsed(tmp_path, "--dataset_name", *names, *line))[0]
    assert (again["question"], again["chart_id"]) == (train["question"], train["chart_id"])

    most = parsed(tmp_path, "--dataset_name", *names, *line, "--max_train_samples", "16", "--max_eval_samples", "4")
    train, evaluation = load_records(*most)
    assert counts(files, train) == {"large": 4, "small": 12}
    assert len(evaluation) == 4

    assert card_facts(script)["train_split"] == "train of a mixture of large.parquet (25 %) and small.parquet (75 %)"
    assert f"--dataset_name {names[0]} " in next_commands(script, "out")["score"]


def test_yaml_lists_the_data_sets(tmp_path, files):
    names = [files["large"], files["small"]]
    (tmp_path / "run.yaml").write_text(f"dataset_name: {json.dumps(names)}\ndataset_weights: [0.7, 0.3]\n")
    script, _ = parsed(tmp_path, str(tmp_path / "run.yaml"))
    assert (script.dataset_name, script.other_datasets) == (names[0], names[1:])
    assert script.dataset_weights == [0.7, 0.3]


def test_own_data_holds_out_charts_of_the_first_data_set(tmp_path, files):
    names = [files["large"], files["small"]]
    script, args = parsed(tmp_path, "--dataset_name", *names, script=ScriptArguments)
    train, evaluation = load(script, args)
    assert counts(files, evaluation) == {"large": 4}
    assert counts(files, train) == {"large": 20, "small": 8}
    held_out = json.loads((tmp_path / "out" / "split.json").read_text())["held_out_charts"]
    assert held_out == list(dict.fromkeys(evaluation["chart_id"]))
    line = ["--eval_data", names[1], "--dataset_weights", "0.5", "0.5"]
    script, args = parsed(tmp_path, "--dataset_name", names[0], *names[1:], *line, script=ScriptArguments)
    with pytest.raises(ValueError, match=r"small.parquet: nothing is left to train on, since all of its charts are"):
        load(script, args)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["A", "B", "--dataset_weights", "1"], "one positive number for each of the 2 data sets, got 1.0"),
        (["A", "B", "--dataset_weights", "1", "0"], "one positive number for each of the 2 data sets, got 1.0 0.0"),
        (["A", "B", "--dataset_weights", "1", "nan"], "one positive number for each of the 2 data sets, got 1.0 nan"),
        (["A", "--dataset_weights", "1"], "--dataset_weights is for several data sets"),
        (["A", "B", "A"], "--dataset_name has a data set twice (A, B, A)"),
        (["A", "B", "--dataset_revision", "v1"], "--dataset_revision is for one data set"),
    ],
)
@pytest.mark.parametrize("script", [DataArguments, ScriptArguments])
def test_wrong_mixtures_are_refused(tmp_path, capsys, line, message, script):
    with pytest.raises(SystemExit):
        parsed(tmp_path, "--dataset_name", *line, script=script)
    assert message in capsys.readouterr().err
