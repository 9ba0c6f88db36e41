"""Correctness, speed, memory and a profile on a GPU, in one run that keeps to a time.

    python -m tests.benchmarks.gpu [--minutes 8] [--device cuda] [--tiny] [--parts ...] [--families ...]

Nothing is downloaded: models have random weights, charts are drawn. torch, transformers, accelerate, psutil and pillow
must be installed; `datasets` and `evaluate` need not be. `out/bench/gpu.json` holds everything, `gpu.md` the table for
RESULTS.md. Both are written anew after every part, and a part for which too little time is left is left out and says
so. A part that fails does not end the run; the exit status is 1 if one did.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from .stand_ins import stand_in

MISSING = stand_in()  # before anything imports `datasets`

import torch  # noqa: E402

from ...support.families import FAMILIES  # noqa: E402
from ..measure import OUT  # noqa: E402
from .correctness import equal_updates, losses_and_answers  # noqa: E402
from .levers import COMPILED, LEVERS, compare_compiled, compare_lever  # noqa: E402
from .profiling import profile_step  # noqa: E402
from .report import GpuReport, PartResult, describe_card  # noqa: E402
from .setting import Budget, OutOfTime, Setting, free  # noqa: E402
from .speed import fine_tuning, llava_answers, training_step, validation  # noqa: E402


@dataclass(frozen=True)
class Part:
    """A part of the run: what it does, in steps between which it can stop, and how many seconds one step may need."""

    name: str
    needs: float
    steps: tuple[tuple[str, Callable[[Setting, PartResult], None]], ...]


def all_parts(setting: Setting) -> list[Part]:
    """The parts in their order: correctness first, then speed, then the profile."""

    def families(work: Callable[..., None]) -> tuple[tuple[str, Callable[[Setting, PartResult], None]], ...]:
        return tuple((name, partial(work, name=name)) for name in setting.families)

    sizes = (64,) if setting.tiny else (960, 480)
    levers = tuple(
        (lever.name, partial(compare_lever, lever=lever)) for lever in LEVERS if setting.cuda or not lever.gpu
    )
    return [
        Part("families", 6, families(losses_and_answers)),
        Part("updates", 5, families(equal_updates)),
        Part("levers", 8, levers),
        *(Part(f"step {size} px", 50, ((f"{size} px", partial(training_step, size=size)),)) for size in sizes),
        Part("validation", 60, (("UniChart", validation),)),
        Part("answers", 40, (("LLaVA", llava_answers),)),
        *(Part(f"{mode} step", 45, ((mode, partial(fine_tuning, mode=mode)),)) for mode in ("lora", "full")),
        *(Part(f"profile {size} px", 20, ((f"{size} px", partial(profile_step, size=size)),)) for size in sizes[:1]),
        Part(
            "compile",
            60,
            tuple((name, partial(compare_compiled, name=name)) for name in COMPILED[: 1 if setting.tiny else 2]),
        ),
    ]


def run_part(part: Part, setting: Setting, budget: Budget, report: GpuReport) -> None:
    """Run a part while there is time, and keep what it found, whatever happens."""
    result, started = report.begin(part.name), time.monotonic()
    left_out = []
    try:
        for name, step in part.steps:
            if budget.left < part.needs:
                left_out.append(name)
                continue
            try:
                step(setting, result)
            except Exception as error:  # a GPU has more ways to fail than can be named
                result.check(
                    f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", 1, 0
                )
                result.note(traceback.format_exc(limit=-4))
            free(setting)
        result.conclude()
        if left_out:
            words = f"{len(left_out)} of {len(part.steps)} left out, {max(budget.left, 0):.0f} s were left"
            result.word = f"{result.word}; {words}" if result.word else words
            if len(left_out) == len(part.steps):
                result.status = "left out"
    except OutOfTime:
        result.conclude()
        result.status, result.word = "left out", f"stopped after {budget.seconds / 60:.3g} minutes"
    finally:
        result.seconds = time.monotonic() - started
        report.write()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole run (8)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu together with --tiny")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--parts", nargs="*", help="parts whose names begin so; all unless given")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of each figure (3)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of gpu.json and gpu.md (out/bench)")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --tiny tries everything in tiny sizes")
    if device.type == "cpu" and not args.tiny:
        parser.error("--device cpu needs --tiny: the other sizes are those of a GPU")
    budget = Budget(60 * args.minutes)
    torch.backends.cudnn.allow_tf32 = False  # float32 shall be float32 where losses are compared
    arguments = {**vars(args), "missing": MISSING}
    report = GpuReport(args.out / "gpu.json", describe_card(device), arguments)
    print(f"{report.card}; {report.machine}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(device, args.tiny, Path(folder), tuple(args.families), args.runs)
        with budget.kept(), suppress(OutOfTime):  # between two parts
            for part in all_parts(setting):
                if not args.parts or any(part.name.startswith(name) for name in args.parts):
                    run_part(part, setting, budget, report)
    report.write()
    print(f"\n{report.table()}\n{report.path}", flush=True)
    return int(any(part.status == "failed" for part in report.parts))


if __name__ == "__main__":
    sys.exit(main())
