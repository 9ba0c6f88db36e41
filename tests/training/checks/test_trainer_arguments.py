"""What is refused before training begins."""

from __future__ import annotations

import pytest

from chartqa_ft import ChartQATrainer

from ...support.common import arguments, drawn_charts, tiny, trainer

BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
}


def test_a_best_metric_that_no_evaluation_has_is_refused_before_training(tmp_path):
    records = drawn_charts().select(range(4))
    with pytest.raises(ValueError, match="no evaluation has metric_for_best_model='relaxed_acuracy'"):
        trainer(tmp_path, eval_dataset=records, metric_for_best_model="relaxed_acuracy", **BEST)
    parts = {"easy": records, "hard": records}
    with pytest.raises(ValueError, match="must say of which data set: easy_relaxed_accuracy, hard_relaxed_accuracy"):
        trainer(tmp_path, eval_dataset=parts, **BEST)
    learning = trainer(tmp_path, eval_dataset=parts, metric_for_best_model="eval_hard_relaxed_accuracy_human", **BEST)
    learning.train()
    assert learning.state.best_model_checkpoint.endswith("checkpoint-1")
    trainer(tmp_path / "without", eval_dataset=parts, eval_strategy="steps", eval_steps=1).train()


@pytest.mark.parametrize("name", ["compute_loss_func", "preprocess_logits_for_metrics", "data_collator"])
def test_arguments_that_would_be_ignored_are_refused(tmp_path, name):
    model, processor = tiny()
    with pytest.raises(ValueError, match=f"takes no {name}"):
        ChartQATrainer(model, arguments(tmp_path), processing_class=processor, **{name: lambda *a: None})


def test_missing_parts_say_so(tmp_path):
    model, processor = tiny()
    with pytest.raises(ValueError, match="a loaded model needs its processor"):
        ChartQATrainer(model, arguments(tmp_path))
    bare = ChartQATrainer(model, arguments(tmp_path), processing_class=processor)
    with pytest.raises(ValueError, match="training needs a train_dataset"):
        bare.train()
    with pytest.raises(ValueError, match="evaluation needs an eval_dataset"):
        bare.evaluate()
