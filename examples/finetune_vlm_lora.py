"""Fine-tune any vision-language model on ChartQA with LoRA, DoRA or QLoRA, and score it by generated answers.

One GPU, a chat model that reads charts at their native resolution:

    accelerate launch -q examples/finetune_vlm_lora.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --max_pixels 602112 --output_dir out

Several GPUs, with LoRA in the vision encoder too, and a merged checkpoint that needs no PEFT:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_vlm_lora.py \\
        --model_name_or_path Qwen/Qwen3-VL-4B-Instruct --lora_vision --gradient_accumulation_steps 2 --merge

QLoRA for a model with 7 billion parameters (pip install bitsandbytes); DoRA on chosen layers:

    accelerate launch -q examples/finetune_vlm_lora.py --model_name_or_path llava-hf/llava-1.5-7b-hf --quantize 4
    accelerate launch -q examples/finetune_vlm_lora.py --model_name_or_path google/paligemma-3b-pt-448 --use_dora \\
        --lora_target_modules q_proj k_proj v_proj o_proj

A short run on a laptop without a GPU; all arguments in one YAML file, resumed after an interruption:

    accelerate launch -q examples/finetune_vlm_lora.py --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct \\
        --image_size 512 --max_train_samples 200 --max_eval_samples 40 --num_train_epochs 1 --use_cpu
    accelerate launch -q examples/finetune_vlm_lora.py config.yaml --resume_from_checkpoint last

All parameters, without LoRA (the default learning rate is then 1e-5):

    accelerate launch -q examples/finetune_vlm_lora.py --model_name_or_path google/matcha-base --lora False \\
        --max_patches 1024

It keeps the best checkpoint by relaxed accuracy and writes the LoRA weights, `predictions.jsonl` and `metrics.json`.
evaluate_checkpoint.py and `load_checkpoint` read the output folder like any other model.
`-q` leaves out the traceback that accelerate adds when a script ends with an error.
"""

from chartqa_ft.scripts.finetune_vlm_lora import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)
