"""How the benchmarks measure: peers in turns, memory in a process of its own, a row of the table for each figure."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

OUT = Path(__file__).resolve().parents[2] / "out" / "bench"
RUNS = 5
MIB, GIB = 2**20, 2**30
COLUMNS = ("work", "peer", "ours", "ratio (low - high)", "goal", "runs", "rows", "memory")


# ------------------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Sample:
    """One figure as it came out of each run, in the order of the runs: seconds, or whatever `unit` says."""

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def per_second(self, count: float, unit: str) -> Sample:
        """How many of `count` things a second each run did; `unit` is their name, as `"charts/s"`."""
        return Sample(tuple(count / seconds for seconds in self.values), unit)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        spread = f" ({digits(self.low)} - {digits(self.high)})" if len(self.values) > 1 else ""
        return digits(self.median) + unit + spread


def digits(value: float) -> str:
    """Three significant digits without an exponent: 0.00123, 1.23, 12,345."""
    if value == 0 or abs(value) >= 99.95:
        return f"{value:,.0f}"
    text = f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"
    return text.rstrip("0").rstrip(".")


def ratio(first: Sample, second: Sample) -> Sample:
    """`first / second` of each round, so that what slows a whole round down does not count: peer / ours for seconds,
    ours / peer for rates and bytes. Its median is the ratio, its lowest and highest the spread.

    Raises:
        ValueError: the samples do not have as many runs, or differ in unit.
    """
    if len(first.values) != len(second.values) or first.unit != second.unit:
        raise ValueError(
            f"no pairs: {len(first.values)} runs in {first.unit} and {len(second.values)} in {second.unit}"
        )
    return Sample(tuple(a / b for a, b in zip(first.values, second.values, strict=True)), unit="x")


def alternate(
    works: Mapping[str, Callable[[], Any]],
    *,
    runs: int = RUNS,
    warm_up: int = 1,
    before: Callable[[str], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Sample]:
    """The seconds of every work in each of `runs` rounds: all take their turn in a round, the next goes backwards.

    What the machine does beside falls on all of them alike, and none always comes first.

    Args:
        works: called without arguments; on a GPU the time ends when the device is done.
        warm_up: rounds before, whose times do not count.
        before: called with the name of the work before each of its runs, outside the time.
        clock: gives seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(-warm_up, runs):
        for name in names if number % 2 == 0 else reversed(names):
            if before is not None:
                before(name)
            wait_for_device()
            start = clock()
            works[name]()
            wait_for_device()
            if number >= 0:
                seconds[name].append(clock() - start)
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def wait_for_device() -> None:
    """Until a GPU has done what it was told; nothing where there is none, or torch is not in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


# ------------------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Apart:
    """What a function returned in a process of its own, and the most memory that this process had, in bytes."""

    result: Any
    resident: int
    device: int
    """Of `torch.cuda.max_memory_allocated`; 0 without a GPU."""


def apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Apart:
    """Call an importable function in a fresh process, whose memory holds nothing of this one.

    Arguments and result are pickled. An exception of the function is raised here as well.

    Raises:
        concurrent.futures.process.BrokenProcessPool: the process was killed: the work needs more memory than there is.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_memory, function, args, kwargs).result()


def _with_memory(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Apart:
    result = function(*args, **kwargs)
    wait_for_device()
    return Apart(result, peak_resident(), peak_device())


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return psutil.Process().memory_info().rss


def peak_resident() -> int:
    """The most bytes of this process that were in memory at once."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: a new process inherits that from the one that started it.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let `peak_resident` begin anew from what is in memory now. Only Linux can; elsewhere it stays as it is."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_device() -> int:
    """The most bytes that torch had allocated on the GPU at once; 0 without one."""
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_available() else 0


# -------------------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        work: what was done, with its size; one row of a benchmark replaces another of the same name.
        ours, peer, ratio: the figures; no peer and no ratio where there is nothing to compare with.
        rows: how many questions one run works on.
        goal: as the table states it, `">= 1.5x"`.
        memory: resident or device memory in words, where it was measured beside.
    """

    work: str
    ours: Sample
    rows: int
    peer: Sample | None = None
    ratio: Sample | None = None
    goal: str = "-"
    memory: str = "-"

    def cells(self) -> tuple[str, ...]:
        """As many as `COLUMNS`."""
        optional = ("-" if figure is None else str(figure) for figure in (self.peer, self.ours, self.ratio))
        return (self.work, *optional, self.goal, str(len(self.ours.values)), f"{self.rows:,}", self.memory)


def describe_machine() -> str:
    """Processor, number of cores that may be used, memory, GPU, and the versions that matter."""
    import torch
    import transformers

    names = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else [])
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [
        f"{cores} cores of {names[0] if names else platform.processor() or platform.machine()}",
        f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        *([torch.cuda.get_device_name()] if torch.cuda.is_available() else []),
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}",
    ]
    return ", ".join(parts)


@dataclass
class Report:
    """Prints the rows of one benchmark as they come and appends them to `<folder>/<name>.jsonl`.

    Attributes:
        name: of the benchmark, as `"P5"`.
        quick: the sizes were those of a trial: the collected table leaves such rows out.
    """

    name: str
    folder: Path = OUT
    quick: bool = False
    machine: str = field(default_factory=describe_machine)

    def __post_init__(self) -> None:
        load = " ".join(f"{part:.1f}" for part in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
        print(f"{self.name} on {self.machine}; load average before: {load}", flush=True)
        print(markdown([]), flush=True)

    def add(self, row: Row) -> None:
        print(markdown([row], head=False), flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"benchmark": self.name, "quick": self.quick, "machine": self.machine, **asdict(row)}
        with open(self.folder / f"{self.name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def note(self, text: str) -> None:
        """A line of words between the rows, which is only printed."""
        print(f"  {text}", flush=True)


def markdown(rows: Sequence[Row], *, head: bool = True) -> str:
    """The rows of a Markdown table, with its head or without."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)] if head else []
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *(row.cells() for row in rows)])


def read_rows(folder: Path = OUT, *, quick: bool = False) -> dict[str, list[tuple[str, Row]]]:
    """Of every machine the rows that were measured on it, each as (benchmark, row): of one work the last."""
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            benchmark, machine = line.pop("benchmark"), line.pop("machine")
            if line.pop("quick") != quick:
                continue
            for key in ("ours", "peer", "ratio"):
                if line[key] is not None:
                    line[key] = Sample(tuple(line[key]["values"]), line[key]["unit"])
            found.setdefault(machine, {})[benchmark, line["work"]] = Row(**line)
    return {machine: [(name, row) for (name, _), row in rows.items()] for machine, rows in found.items()}


def arguments(description: str | None, runs: int = RUNS) -> argparse.ArgumentParser:
    """The arguments that all benchmarks share: `--quick`, `--runs` (by default `runs`) and `--out`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--runs", type=int, default=runs, help=f"alternating runs of each figure ({runs})")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the collected rows (out/bench)")
    return parser
