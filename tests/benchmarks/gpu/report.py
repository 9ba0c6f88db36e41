"""One JSON file and one table of everything that the parts found; both are written anew after every part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..measure import GIB, MIB, Row, Sample, describe_machine, markdown, ratio


@dataclass
class Check:
    """A figure that must not be above its limit."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit  # false for NaN


@dataclass
class PartResult:
    """What one part found."""

    name: str
    status: str = "running"
    """`done`, `left out` or `failed`."""
    word: str = ""
    """Why it was left out, or how it failed."""
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self, name: str, value: float, limit: float) -> None:
        """Keep a figure, and print it if it is above its limit."""
        self.checks.append(Check(name, value, limit))
        if not self.checks[-1].passed:
            print(f"  {name}: {value:.2g}, more than {limit:.2g}", flush=True)

    def note(self, text: str) -> None:
        """Keep and print a line."""
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def compare(
        self,
        work: str,
        times: Mapping[str, Sample],
        *,
        peer: str,
        ours: str,
        rows: int,
        goal: str = "-",
        memory: Mapping[str, int | None] | None = None,
    ) -> None:
        """Keep a row of the table: a peer's times beside ours, and the memory of both where it is known."""
        before, after = ((memory or {}).get(side) for side in (peer, ours))
        words = "-"
        if before and after:
            words = f"{before / GIB:.2f} -> {after / GIB:.2f} GiB ({after / before:.3g}x)"
        row = Row(work, times[ours], rows, times[peer], ratio(times[peer], times[ours]), goal, words)
        self.rows.append(row)
        print(markdown([row], head=False), flush=True)

    def conclude(self) -> None:
        """Decide what became of a part that ran to its end."""
        wrong = [check for check in self.checks if not check.passed]
        self.status = "failed" if wrong else "done"
        if wrong:
            self.word = f"{len(wrong)} of {len(self.checks)} checks: " + "; ".join(check.name for check in wrong[:5])


@dataclass
class GpuReport:
    """All parts of a run."""

    path: Path
    card: str
    arguments: dict[str, Any]
    parts: list[PartResult] = field(default_factory=list)
    machine: str = field(default_factory=describe_machine)

    def begin(self, name: str) -> PartResult:
        self.parts.append(PartResult(name))
        print(f"{name}", flush=True)
        return self.parts[-1]

    def write(self) -> None:
        """Write the JSON file and, beside it, the table."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(asdict(self), indent=1, default=str), encoding="utf-8")
        self.path.with_suffix(".md").write_text(self.table(), encoding="utf-8")

    def table(self) -> str:
        """The section of RESULTS.md: the card, the checks, the figures, and where the time goes."""
        rows = [row for part in self.parts for row in part.rows]
        checks = [(part, check) for part in self.parts for check in part.checks]
        passed = sum(check.passed for _, check in checks)
        lines = [f"## {self.card}", "", f"{self.machine}.", ""]
        lines += ["| part | result | seconds | checks |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {part.name} | {part.status}{': ' + part.word.splitlines()[0] if part.word else ''} "
            f"| {part.seconds:.0f} | {len(part.checks) or '-'} |"
            for part in self.parts
        ]
        lines += ["", f"{passed} of {len(checks)} checks passed.", "", markdown(rows), ""]
        lines += [f"- {part.name}: {note}" for part in self.parts for note in part.notes]
        return "\n".join(lines) + "\n"


def describe_card(device: torch.device) -> str:
    """The name and memory of the GPU, or that there is none."""
    if device.type != "cuda":
        return "No GPU (a trial on the CPU)"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / MIB / 1024:.0f} GiB, CUDA {torch.version.cuda}"
