"""Evaluate any checkpoint on any split of ChartQA: relaxed accuracy per source, with 95 % intervals.

    accelerate launch -q examples/evaluate_checkpoint.py --model_name_or_path ahmed-masry/unichart-chartqa-960 \\
        --output_dir scores

    accelerate launch --multi_gpu --num_processes 4 examples/evaluate_checkpoint.py \\
        --model_name_or_path out --dataset_name "ChartQA Dataset" --eval_split test --output_dir scores

    accelerate launch -q examples/evaluate_checkpoint.py --model_name_or_path out --dataset_name questions.csv \\
        --image_dir charts --split_file out/split.json --output_dir scores

    accelerate launch -q examples/evaluate_checkpoint.py --model_name_or_path out --eval_split val \\
        --metric_variant lenient --generation_num_beams 1 --output_dir scores_lenient

All arguments may also be in one YAML file:

    accelerate launch -q examples/evaluate_checkpoint.py config.yaml

It prints the table that papers quote ("mean of splits" is their average) and writes `predictions.jsonl`,
`metrics.json` and `answers.png`; with `--report` also `report.html`, which shows every answer with its chart. A file
without splits is taken as it is. `--split_file` selects the charts that finetune_own_data has held out. `chartqa-ft
compare` tests whether two such runs differ by more than chance.
`-q` leaves out the traceback that accelerate adds when a script ends with an error.
"""

from chartqa_ft.scripts.evaluate_checkpoint import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)
