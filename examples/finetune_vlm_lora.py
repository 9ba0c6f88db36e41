"""Fine-tune any vision-language model on ChartQA with LoRA, DoRA or QLoRA, and score it by generated answers.

One GPU, a chat model that reads charts at their native resolution:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --max_pixels 602112 --output_dir out

Several GPUs, with LoRA in the vision encoder too, and a merged checkpoint that needs no PEFT:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_vlm_lora.py \\
        --model_name_or_path Qwen/Qwen3-VL-4B-Instruct --lora_vision --gradient_accumulation_steps 2 --merge

QLoRA for a model with 7 billion parameters (pip install bitsandbytes); DoRA on chosen layers:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path llava-hf/llava-1.5-7b-hf --quantize 4
    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path google/paligemma-3b-pt-448 --use_dora \\
        --lora_target_modules q_proj k_proj v_proj o_proj

A short run on a laptop without a GPU; all arguments in one YAML file, resumed after an interruption:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct \\
        --image_size 512 --max_train_samples 200 --max_eval_samples 40 --num_train_epochs 1 --use_cpu
    accelerate launch examples/finetune_vlm_lora.py config.yaml --resume_from_checkpoint last

All parameters, without LoRA (the default learning rate is then 1e-5):

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path google/matcha-base --lora False \\
        --max_patches 1024

It keeps the best checkpoint by relaxed accuracy and writes the LoRA weights, `predictions.jsonl` and `metrics.json`.
evaluate_checkpoint.py and `load_checkpoint` read the output folder like any other model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from chartqa_ft import ChartQATrainer, default_lora_config, quantized_loading
from chartqa_ft.models.lora import ALPHA, DROPOUT, RANK
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


@dataclass
class ScriptArguments(DataArguments, ModelArguments):
    """Which model to train, on which charts, and which of its weights."""

    model_name_or_path: str = field(
        default="Qwen/Qwen2.5-VL-3B-Instruct", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    lora: bool = field(default=True, metadata={"help": "Train LoRA weights. False: train all parameters."})
    lora_r: int = field(default=RANK, metadata={"help": "Rank of the LoRA matrices."})
    lora_alpha: int = field(default=ALPHA, metadata={"help": "LoRA updates are scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=DROPOUT, metadata={"help": "Dropout of the inputs of LoRA layers."})
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


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(
        arguments,
        ScriptArguments,
        description=__doc__,
        usage="accelerate launch examples/finetune_vlm_lora.py [config.yaml] [--ARGUMENT VALUE ...]",
        defaults=DEFAULTS,
        defaults_with={"lora": {False: {"learning_rate": 1e-5}}},
        aliases=OLD_NAMES,
    )
    set_up_logging(args)
    resume = checkpoint_to_resume(args)
    with one_line_errors(RuntimeError):  # which quantized_loading raises without a GPU
        quantized = quantized_loading(script.quantize) if script.quantize is not None else {}
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args, frozen=script.lora, **quantized)
        peft_config = None
        if script.lora and not hasattr(model, "peft_config"):  # LoRA weights of a checkpoint are trained further
            names = script.lora_target_modules
            targets = {"target_modules": names[0] if names == ["all-linear"] else names} if names else {}
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
        trainer.save_merged()
    return metrics


if __name__ == "__main__":
    run_script(main)
