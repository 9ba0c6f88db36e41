"""What the page on tasks tells a user to run, taken from it as it stands."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from chartqa_ft import adapter_for, synthetic_chartqa, tiny_unichart
from chartqa_ft.adapters import add_prompt_tokens
from chartqa_ft.adapters.tasks.registry import _REGISTRY
from chartqa_ft.data.synthetic.tasks import TASKS
from chartqa_ft.scripts import evaluate_checkpoint
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import ROOT, arguments, tiny
from ..support.pages import blocks, commands

PAGE = (ROOT / "examples" / "tasks.md").read_text(encoding="utf-8")
NOT_RUN = {"make demo-tasks": "tests/scripts/test_demo_tasks.py runs its script"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a user stands: a folder `charts` in the original layout, with tables."""
    monkeypatch.chdir(tmp_path)
    split = tmp_path / "charts" / "train"
    for name in ("png", "tables"):
        (split / name).mkdir(parents=True)
    records = []
    for row in synthetic_chartqa(2, seed=0, tasks=TASKS):
        name = row["chart_id"]
        row["image"].save(split / "png" / f"{name}.png")
        if row["task"] == "qa":
            records.append({"imgname": f"{name}.png", "query": row["question"], "label": row["answer"]})
        if row["task"] == "table":
            (split / "tables" / f"{name}.csv").write_text(row["answer"].replace(" | ", ","))
    (split / "train_human.json").write_text(json.dumps(records))
    return tmp_path


@pytest.fixture
def registered():
    before = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


def test_every_command_is_run_or_has_its_reason():
    assert [line for line in commands(PAGE) if line not in NOT_RUN] == [
        line for line in commands(PAGE) if line.startswith("chartqa-ft evaluate")
    ]


def test_the_code_of_the_page_runs_in_order(folder, registered, capsys):
    scope: dict = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, "tasks.md", "exec"), scope)
    assert scope["metrics"]["eval_table_n"] == 2
    assert scope["metrics"]["eval_n"] == len(scope["questions"])
    assert scope["tables"][0]["answer"].startswith("Color | Value\n")
    assert isinstance(scope["answer"], str)


def test_the_task_of_the_page_is_short_and_is_trained_and_scored(registered, tmp_path):
    (block,) = (block for block in blocks(PAGE, "python") if "register_task" in block)
    (own,) = (node for node in ast.parse(block).body if isinstance(node, ast.ClassDef))
    assert own.end_lineno - own.lineno < 30
    exec(block, {})
    model, processor = tiny()
    charts = list(synthetic_chartqa(2, seed=0, questions_per_chart={"count": 1}))
    rows = [{**row, "task": "chart_type", "answer": f"{row['chart_type']} chart"} for row in charts]
    adapter = adapter_for(model, processor)
    batch = adapter.encode(rows)
    assert adapter.decode(batch["labels"]) == [row["chart_type"] for row in rows]
    assert adapter.tokenizer.decode(batch["decoder_input_ids"][0]).startswith("<chartqa> chart type <s_answer>")
    run = ChartQATrainer(model, arguments(tmp_path), train_dataset=rows, eval_dataset=rows, processing_class=processor)
    run.train()
    metrics = run.evaluate()
    assert metrics["eval_chart_type_n"] == 2
    assert 0 <= metrics["eval_chart_type_accuracy"] <= 1


def test_the_evaluation_of_the_page_scores_tables(folder, capsys):
    model, processor = tiny_unichart("test")
    add_prompt_tokens(model, processor, tasks=["table"])
    model.save_pretrained("model")
    processor.save_pretrained("model")
    (line,) = (line for line in commands(PAGE) if line.startswith("chartqa-ft evaluate"))
    words = ["model" if word.startswith("ahmed-masry/") else word for word in shlex.split(line)[2:]]
    metrics = evaluate_checkpoint.main([*words, "--use_cpu"])
    assert metrics["eval_table_n"] == 2
    assert "table  rms_f1" in capsys.readouterr().out
    report = json.loads((folder / "scores" / "metrics.json").read_text())
    assert report["eval_table_rms_f1"] == metrics["eval_table_rms_f1"]
    names = [path.name for path in sorted((folder / "charts" / "train" / "tables").iterdir())]
    assert [path.name for path in sorted((folder / "scores" / "tables").iterdir())] == names
