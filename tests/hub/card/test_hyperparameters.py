"""The hyperparameters that a card lists."""

from __future__ import annotations

from chartqa_ft.hub.card.hyperparameters import hyperparameters
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.training import ChartQATrainingArguments

from ...support.common import arguments
from .examples import TOKEN, facts


def test_hyperparameters_are_the_important_and_the_changed_ones(tmp_path):
    args = arguments(tmp_path, adam_beta2=0.98, hub_token=TOKEN, neftune_noise_alpha=None).to_sanitized_arguments()
    known = {"arguments": args, "default_arguments": ChartQATrainingArguments.default_arguments()}
    shown = hyperparameters(facts(**known, num_processes=2, peft_config={"r": 8, "target_modules": {"b", "a"}}))
    expected = {"learning_rate": "0.001", "max_steps": "1", "adam_beta2": "0.98", "processes": "2", "peft: r": "8"}
    assert shown.items() >= {**expected, "peft: target_modules": '["a", "b"]', "lr_scheduler_type": "cosine"}.items()
    assert not {"output_dir", "adam_beta1", "hub_token", "report_to", "logging_steps", "use_cpu"} & set(shown)
    card = render_card(facts(**known))
    assert "| adam_beta2 | 0.98 |" in card
    assert str(tmp_path) not in card
