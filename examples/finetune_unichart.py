"""Fine-tune UniChart, or any Donut-like model, on ChartQA with the official recipe, and score it by generated answers.

One GPU, the published model and data:

    accelerate launch examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --dataset_name HuggingFaceM4/ChartQA \\
        --output_dir out --gradient_accumulation_steps 2 --per_device_train_batch_size 4

Eight GPUs, with cheap evaluations during training (greedy, 400 questions) and the whole split with 4 beams at the end:

    accelerate launch --multi_gpu --num_processes 8 examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --output_dir out --per_device_train_batch_size 1 \\
        --generation_num_beams 1 --eval_subset 400 --final_num_beams 4

Only show what would be trained, with the time and memory of a step, and charts that are in both splits:

    accelerate launch examples/finetune_unichart.py --output_dir out --check

A short run on the original folder layout; the same resumed after an interruption; all arguments in one YAML file:

    accelerate launch examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1
    accelerate launch examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1 \\
        --resume_from_checkpoint last
    accelerate launch examples/finetune_unichart.py config.yaml

It keeps the best checkpoint by relaxed accuracy and writes the model, `predictions.jsonl` and `metrics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chartqa_ft import ChartQATrainer
from chartqa_ft.scripts import (
    DataArguments,
    ModelArguments,
    checkpoint_to_resume,
    load_model,
    load_records,
    one_line_errors,
    parse,
    run_script,
    set_up_logging,
    train_and_score,
)

DEFAULTS = {
    "output_dir": "out",
    "eval_strategy": "steps",
    "eval_steps": 1000,
    "save_steps": 1000,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
}


@dataclass
class ScriptArguments(DataArguments, ModelArguments):
    """Which model to train, on which charts."""

    max_length: int | None = field(
        default=512,
        metadata={"help": "Maximum length of prompt and answer in tokens (recipe: 512); questions are cut to fit."},
    )


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(
        arguments,
        ScriptArguments,
        description=__doc__,
        usage="accelerate launch examples/finetune_unichart.py [config.yaml] [--ARGUMENT VALUE ...]",
        defaults=DEFAULTS,
    )
    set_up_logging(args)
    resume = checkpoint_to_resume(args)
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args)
        trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter)
    return train_and_score(trainer, script, resume)


if __name__ == "__main__":
    run_script(main)
