"""Measure on this machine whether what chartqa_ft promises holds for a model, before you train it.

    accelerate launch -q --num_processes 1 examples/check_model.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --dtype bfloat16 --lora

    accelerate launch -q --num_processes 1 examples/check_model.py --model_name_or_path out --data questions.csv \\
        --image_dir charts --json check.json

It prints a table with nine lines, each of which passes, fails or does not apply, with what was measured and the bound
that follows from the dtype. The exit code is 1 if a line fails, so that a CI job can stop there.
"""

import sys

from chartqa_ft.scripts.check_model import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__, program="accelerate launch -q --num_processes 1 examples/check_model.py"))
