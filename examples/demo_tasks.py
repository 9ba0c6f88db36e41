"""Train one tiny model from scratch to answer questions, read tables and write summaries: `make demo-tasks`.

Draws charts, each with questions, its data table and a sentence about it; builds a tiny model with UniChart's
architecture and the prompts of its tasks, trains it on all of them together, and scores it on charts that it has never
seen: relaxed accuracy of the questions, RMS F1 of the tables, BLEU of the summaries.

    python examples/demo_tasks.py [--output_dir demo_tasks_output] [--steps 1300] [--charts 6000]
"""

from chartqa_ft.scripts.demo_tasks import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)
