"""`examples/grpo_chartqa.py`: TRL's trainer with our reward, on a tiny chat model."""

from __future__ import annotations

import json
import sys

import pytest
from datasets import Dataset, Image

from chartqa_ft import answer_questions, load_checkpoint

from ..support import families
from ..support.common import ROOT, run

STEPS = 8


@pytest.mark.long
def test_sampled_answers_earn_more_after_a_few_steps(tmp_path):
    """In a process of its own: TRL raises FutureWarnings, which are errors here."""
    pytest.importorskip("trl", reason="`make test` installs the extra rl")
    model, processor = families.build("qwen2_5_vl")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
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
