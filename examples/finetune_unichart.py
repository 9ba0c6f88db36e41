"""Fine-tune UniChart, or any Donut-like model, on ChartQA with the official recipe, and score it by generated answers.

One GPU, the published model and data:

    accelerate launch -q examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --dataset_name HuggingFaceM4/ChartQA \\
        --output_dir out --gradient_accumulation_steps 2 --per_device_train_batch_size 4

Eight GPUs, with cheap evaluations during training (greedy, 400 questions) and the whole split with 4 beams at the end:

    accelerate launch --multi_gpu --num_processes 8 examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --output_dir out --per_device_train_batch_size 1 \\
        --generation_num_beams 1 --eval_subset 400 --final_num_beams 4

Only show what would be trained, with the time and memory of a step, and charts that are in both splits:

    accelerate launch -q examples/finetune_unichart.py --output_dir out --check

A short run on the original folder layout; the same resumed after an interruption; all arguments in one YAML file:

    accelerate launch -q examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1
    accelerate launch -q examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1 \\
        --resume_from_checkpoint last
    accelerate launch -q examples/finetune_unichart.py config.yaml

It keeps the best checkpoint by relaxed accuracy and writes the model, `predictions.jsonl` and `metrics.json`.
`-q` leaves out the traceback that accelerate adds when a script ends with an error.
"""

from chartqa_ft.scripts.finetune_unichart import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)
