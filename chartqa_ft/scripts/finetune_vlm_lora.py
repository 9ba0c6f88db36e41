"""Fine-tune any vision-language model on ChartQA with LoRA, DoRA or QLoRA, and score it by generated answers.

    accelerate launch -q -m chartqa_ft.scripts.finetune_vlm_lora --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --max_pixels 602112 --output_dir out

It keeps the best checkpoint by relaxed accuracy and writes the LoRA weights, `predictions.jsonl` and `metrics.json`.
`chartqa-ft evaluate` and `load_checkpoint` read the output folder like any other model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arguments import DataArguments, ModelArguments
from .help_text import DATA, EVALUATION, HUB, MODEL, TRAINING
from .parsing import parse
from .process import run_script, usage

if TYPE_CHECKING:
    from ..training.arguments import ChartQATrainingArguments

logger = logging.getLogger("chartqa_ft.finetune")
OLD_NAMES = {"full": "no_lora"}
DEFAULTS = {
    "output_dir": "out",
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "activation_checkpointing": True,
    "generation_num_beams": 1,
    "eval_subset": 400,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_steps": 500,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
}
FIRST = {
    "Model": (*MODEL, "max_pixels"),
    "LoRA": ("lora", "lora_r", "lora_target_modules", "lora_vision", "use_dora", "quantize", "merge"),
    "Data": DATA,
    "Training": TRAINING,
    "Evaluation": EVALUATION,
    "Hub and logs": HUB,
}


@dataclass
class ScriptArguments(DataArguments, ModelArguments):
    """Which model to train, on which charts, and which of its weights."""

    model_name_or_path: str = field(
        default="Qwen/Qwen2.5-VL-3B-Instruct", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    lora: bool = field(default=True, metadata={"help": "Train LoRA weights. False: train all parameters."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA matrices."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA updates are scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout of the inputs of LoRA layers."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of layers, or all-linear. Unset: attention and MLP of the language model's blocks."},
    )
    lora_vision: bool = field(default=False, metadata={"help": "Add LoRA to the vision encoder too."})
    use_dora: bool = field(default=False, metadata={"help": "DoRA: learn magnitudes as well as directions."})
    quantize: int | None = field(default=None, metadata={"help": "QLoRA: load the model in 4 or 8 bits (CUDA GPU)."})
    merge: bool = field(default=False, metadata={"help": "Also save the merged model, in output_dir/merged."})

    def __post_init__(self) -> None:
        super().__post_init__()
        lora_only = ("quantize", "use_dora", "lora_vision", "lora_target_modules", "merge")
        needless = [f"--{name}" for name in lora_only if getattr(self, name)]
        if not self.lora and needless:
            raise ValueError(f"--lora False trains all parameters: leave out {', '.join(needless)}")
        if self.lora_vision and self.lora_target_modules:
            raise ValueError("--lora_target_modules lists all layers that get LoRA: leave out --lora_vision")


def main(
    arguments: list[str] | None = None, *, description: str | None = __doc__, program: str | None = None
) -> dict[str, float]:
    """Parse a command line (`None`: that of this process), then train and score a model; return its metrics."""
    return train(
        *parse(
            arguments,
            ScriptArguments,
            description=description,
            usage=usage("finetune_vlm_lora", program),
            defaults=DEFAULTS,
            defaults_with={"lora": {False: {"learning_rate": 1e-5}}},
            aliases=OLD_NAMES,
            first=FIRST,
        )
    )


def train(script: ScriptArguments, args: ChartQATrainingArguments) -> dict[str, float]:
    """Train and score a model as the arguments say, and return its metrics."""
    from ..models.lora import default_lora_config
    from ..models.quantization import quantized_loading
    from ..training.trainer import ChartQATrainer
    from .loading import load_model, load_records
    from .running import checkpoint_to_resume, one_line_errors, set_up_logging, train_and_score

    set_up_logging(args)
    resume = checkpoint_to_resume(args, script.check)
    with one_line_errors(RuntimeError):  # which quantized_loading raises without a GPU
        quantized = quantized_loading(script.quantize) if script.quantize is not None else {}
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args, frozen=script.lora, **quantized)
        peft_config = None
        if script.lora and not hasattr(model, "peft_config"):  # LoRA weights of a checkpoint are trained further
            names = script.lora_target_modules
            targets: dict[str, Any] = (
                {"target_modules": names[0] if names == ["all-linear"] else names} if names else {}
            )
            peft_config = default_lora_config(
                model,
                vision=script.lora_vision,
                r=script.lora_r,
                lora_alpha=script.lora_alpha,
                lora_dropout=script.lora_dropout,
                use_dora=script.use_dora,
                revision=script.model_revision,
                **targets,
            )
        trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter, peft_config)
    metrics = train_and_score(trainer, script, resume)
    if metrics and script.merge:
        folder = trainer.save_merged()
        if trainer.is_world_process_zero():
            print(f"merged model: {folder}")
    return metrics


if __name__ == "__main__":
    run_script(main)
