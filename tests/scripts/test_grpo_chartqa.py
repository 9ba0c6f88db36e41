"""`examples/grpo_chartqa.py`: TRL's trainer with our reward, on a tiny chat model."""

from __future__ import annotations

import json
import sys

import pytest
from datasets import Dataset, Image

from chartqa_ft import adapter_for, answer_questions, load_checkpoint
from chartqa_ft.models.chartqa_config import save_settings

from ..support import families
from ..support.common import ROOT, run
from ..support.launching import save_family

STEPS = 8
NOTING = """
import json, runpy, sys, trl

class Noting:
    def __init__(self, *, train_dataset, **_):
        print(json.dumps(train_dataset[0]["prompt"]))
        raise SystemExit

trl.GRPOTrainer = Noting
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script up to its trainer, and prints the messages of its first question."""


@pytest.mark.long
def test_sampled_answers_earn_more_after_a_few_steps(tmp_path):
    """In a process of its own: TRL raises FutureWarnings, which are errors here."""
    pytest.importorskip("trl", reason="`make test` installs the extra rl")
    save_family("qwen2_5_vl", tmp_path / "model")
    rows = families.records(4)
    # The label is what the model says, so that some sampled answers are right: without a spread nothing is learned.
    model, processor, _ = load_checkpoint(tmp_path / "model")
    charts, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    said = answer_questions(model, processor, charts, questions, max_new_tokens=1, progress=False)
    labeled = [{**row, "answer": text} for row, text in zip(rows, said, strict=True)]
    Dataset.from_list(labeled).cast_column("image", Image()).save_to_disk(tmp_path / "charts")
    line = f"""--model_name_or_path {tmp_path / "model"} --dataset_name {tmp_path / "charts"} --output_dir
        {tmp_path / "out"} --max_steps {STEPS} --per_device_train_batch_size 16 --num_generations 16
        --max_completion_length 1 --learning_rate 0.01 --lr_scheduler_type constant --temperature 0.3 --use_cpu
        --bf16 False --dtype float32 --report_to none --logging_steps 1 --disable_tqdm True"""
    run([sys.executable, "-W", "ignore", str(ROOT / "examples" / "grpo_chartqa.py"), *line.split()])
    state = json.loads((tmp_path / "out" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text(encoding="utf-8"))
    log = [row for row in state["log_history"] if "reward" in row]
    rewards = [row["rewards/relaxed_accuracy_reward/mean"] for row in log]
    assert rewards == [row["reward"] for row in log]
    assert len(rewards) == STEPS
    assert log[0]["grad_norm"] > 0
    assert sum(rewards[-4:]) > sum(rewards[:4])
    # What was saved is a checkpoint of this library.
    trained, _, adapter = load_checkpoint(tmp_path / "out")
    assert adapter.name == "causal"
    assert any((new != old).any() for new, old in zip(trained.parameters(), model.parameters(), strict=True))


@pytest.mark.long
def test_questions_are_asked_as_the_checkpoint_asks_them(tmp_path):
    pytest.importorskip("trl", reason="`make test` installs the extra rl")
    model, processor, _ = load_checkpoint(save_family("qwen2_5_vl", tmp_path / "model"))
    adapter = adapter_for(model, processor, prompt="Look: {question}", system_prompt="Answer with one word.")
    save_settings(adapter, tmp_path / "model")
    rows = families.records(2)
    Dataset.from_list(rows).cast_column("image", Image()).save_to_disk(tmp_path / "charts")
    line = f"""--model_name_or_path {tmp_path / "model"} --dataset_name {tmp_path / "charts"}
        --output_dir {tmp_path / "out"} --use_cpu --bf16 False --dtype float32 --report_to none"""
    script = str(ROOT / "examples" / "grpo_chartqa.py")
    told = run([sys.executable, "-W", "ignore", "-c", NOTING, script, *line.split()]).stdout
    assert json.loads(told.splitlines()[-1]) == [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": f"Look: {rows[0]['question']}"},
    ]
