"""Fine-tune any vision-language model on ChartQA with LoRA, DoRA or QLoRA, and score it by generated answers.

One GPU, a chat model that reads charts in their own resolution:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --max_pixels 602112 --output_dir out

Several GPUs; the vision side learns too; a merged checkpoint that needs no PEFT:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_vlm_lora.py \\
        --model_name_or_path Qwen/Qwen3-VL-4B-Instruct --lora_vision --gradient_accumulation_steps 2 --merge

QLoRA of a model of 7 billion parameters (pip install bitsandbytes); DoRA on chosen layers:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path llava-hf/llava-1.5-7b-hf --quantize 4
    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path google/paligemma-3b-pt-448 --use_dora \\
        --lora_target_modules q_proj k_proj v_proj o_proj

On a laptop without GPU, a taste of it; all arguments in one YAML file; going on after an interruption:

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct \\
        --image_size 512 --max_train_samples 200 --max_eval_samples 40 --num_train_epochs 1 --use_cpu
    accelerate launch examples/finetune_vlm_lora.py config.yaml --resume_from_checkpoint last

All parameters, without an adapter (the learning rate is then 1e-5 unless you name one):

    accelerate launch examples/finetune_vlm_lora.py --model_name_or_path google/matcha-base --full --max_patches 1024

It keeps the best checkpoint by relaxed accuracy and writes the adapter, `predictions.jsonl` and `metrics.json`, which
evaluate_checkpoint.py and `load_checkpoint` read like any other model.
"""

from __future__ import annotations

import logging
import sys
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
    trainable_share,
)

logger = logging.getLogger("chartqa_ft.finetune")
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
    """Which model learns from which charts, and which of its weights."""

    model_name_or_path: str = field(
        default="Qwen/Qwen2.5-VL-3B-Instruct", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    lora_r: int = field(default=RANK, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=ALPHA, metadata={"help": "Its scale is alpha / rank."})
    lora_dropout: float = field(default=DROPOUT, metadata={"help": "Dropout in front of the adapter."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of layers, or all-linear. Unset: attention and MLP of every block of the text side."},
    )
    lora_vision: bool = field(default=False, metadata={"help": "Adapt the blocks of the vision side as well."})
    use_dora: bool = field(default=False, metadata={"help": "DoRA: learn magnitudes beside directions."})
    quantize: int | None = field(default=None, metadata={"help": "QLoRA: load the model in 4 or 8 bits (CUDA GPU)."})
    full: bool = field(default=False, metadata={"help": "Train all parameters, without an adapter."})
    merge: bool = field(default=False, metadata={"help": "Also save the merged model, in output_dir/merged."})

    def __post_init__(self) -> None:
        lora_only = [name for name in ("quantize", "use_dora", "lora_vision", "merge") if getattr(self, name)]
        if self.full and (lora_only or self.lora_target_modules):
            raise ValueError(f"--full trains without an adapter: leave out --{[*lora_only, 'lora_target_modules'][0]}")
        if self.lora_vision and self.lora_target_modules:
            raise ValueError("--lora_target_modules names all layers to adapt: leave out --lora_vision")


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(
        sys.argv[1:] if arguments is None else arguments,
        ScriptArguments,
        description=__doc__,
        usage="accelerate launch examples/finetune_vlm_lora.py [config.yaml] [--ARGUMENT VALUE ...]",
        defaults=DEFAULTS,
        defaults_with={"full": {"learning_rate": 1e-5}},
    )
    set_up_logging(args)
    resume = checkpoint_to_resume(args)
    with one_line_errors(RuntimeError):  # what quantized_loading raises without a GPU
        quantized = quantized_loading(script.quantize) if script.quantize is not None else {}
    with one_line_errors():
        train, evaluation = load_records(script, args)
        model, processor, adapter = load_model(script, args, frozen=not script.full, **quantized)
        peft_config = None
        if not (script.full or hasattr(model, "peft_config")):  # a saved adapter is trained on
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
    logger.info("%s", trainable_share(trainer.model))
    metrics = train_and_score(trainer, script, resume)
    if script.merge:
        trainer.save_merged()
    return metrics


if __name__ == "__main__":
    run_script(main)
