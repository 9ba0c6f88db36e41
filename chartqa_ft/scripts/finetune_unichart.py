"""Fine-tune UniChart, or any Donut-like model, on ChartQA with the official recipe, and score it by generated answers.

    accelerate launch -q -m chartqa_ft.scripts.finetune_unichart --model_name_or_path ahmed-masry/unichart-base-960 \\
        --dataset_name HuggingFaceM4/ChartQA --output_dir out

It keeps the best checkpoint by relaxed accuracy and writes the model, `predictions.jsonl` and `metrics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .arguments import DataArguments, ModelArguments
from .help_text import DATA, EVALUATION, HUB, MODEL, TRAINING
from .parsing import parse
from .process import run_script, usage

if TYPE_CHECKING:
    from ..training.arguments import ChartQATrainingArguments

DEFAULTS = {
    "output_dir": "out",
    "eval_strategy": "steps",
    "eval_steps": 1000,
    "save_steps": 1000,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
}
FIRST = {
    "Model": MODEL,
    "Data": DATA,
    "Training": TRAINING,
    "Evaluation": (*EVALUATION, "final_num_beams"),
    "Hub and logs": HUB,
}


@dataclass
class ScriptArguments(DataArguments, ModelArguments):
    """Which model to train, on which charts."""

    max_length: int | None = field(
        default=512,
        metadata={"help": "Maximum length of prompt and answer in tokens (recipe: 512); questions are cut to fit."},
    )


def main(
    arguments: list[str] | None = None, *, description: str | None = __doc__, program: str | None = None
) -> dict[str, float]:
    """Parse a command line (`None`: that of this process), then train and score a model; return its metrics."""
    return train(
        *parse(
            arguments,
            ScriptArguments,
            description=description,
            usage=usage("finetune_unichart", program),
            defaults=DEFAULTS,
            first=FIRST,
        )
    )


def train(script: ScriptArguments, args: ChartQATrainingArguments) -> dict[str, float]:
    """Train and score a model as the arguments say, and return its metrics."""
    from ..training.trainer import ChartQATrainer
    from .loading import load_model, load_records
    from .running import checkpoint_to_resume, one_line_errors, set_up_logging, train_and_score

    set_up_logging(args)
    resume = checkpoint_to_resume(args, script.check)
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args)
        trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter)
    return train_and_score(trainer, script, resume)


if __name__ == "__main__":
    run_script(main)
