"""Train and score a tiny model from scratch, on a CPU, without downloads.

Draws charts with questions, builds a tiny model with UniChart's architecture, trains it with `ChartQATrainer`, and
scores it on charts that it has never seen. The table also shows a baseline that gives the most frequent answer.

    chartqa-ft demo [--output_dir demo_output] [--steps 2000] [--charts 6000]
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .process import run_script
from .subcommands import SubcommandParser

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, description: str | None = __doc__) -> float:
    """Train and score the tiny model of the demo; return its accuracy.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.
        description: Text that `--help` shows.
    """
    parser = SubcommandParser("demo", description)
    parser.add_argument("--output_dir", default="demo_output", help="Folder for the model and the picture.")
    parser.add_argument("--steps", type=int, default=2000, help="Number of optimizer steps (default: 2000).")
    parser.add_argument("--charts", type=int, default=6000, help="Number of charts to train on (default: 6000).")
    parser.add_argument(
        "--held_out_charts", type=int, default=300, help="Number of other charts to score (default: 300)."
    )
    options = parser.parse_args(arguments)
    from .demo_training import run

    logging.basicConfig(level=logging.WARNING)
    return run(
        options.output_dir,
        steps=options.steps,
        charts=options.charts,
        held_out_charts=options.held_out_charts,
    )


if __name__ == "__main__":
    run_script(main)
