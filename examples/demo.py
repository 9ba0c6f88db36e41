"""Train and score a tiny model from scratch, on a CPU, without downloads: `make demo`.

Draws charts with questions, builds a tiny model with UniChart's architecture, trains it with `ChartQATrainer`, and
scores it on charts that it has never seen. The table also shows a baseline that gives the most frequent answer.

    python examples/demo.py [--output_dir demo_output] [--steps 2000] [--charts 6000]
"""

from chartqa_ft.scripts.demo import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)
