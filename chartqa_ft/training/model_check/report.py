"""What `check_model` returns: one line per promise, as a table, as JSON and as an exit code."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...files import as_json, write_json

__all__ = ["TITLES", "CheckLine", "CheckReport"]

Status = Literal["pass", "fail", "not applicable"]

TITLES = {
    "training_batch": "training batch reads back",
    "prompt_tokens": "prompts as the processor's own",
    "training_logits": "training logits = generation logits",
    "batched_answers": "answers together = answers alone",
    "gradients": "gradient of 4x1 = 2x2 = 1x4 rows",
    "shared_charts": "shared, packed charts = charts alone",
    "peft_gradients": "every LoRA target gets a gradient",
    "saving": "saved, loaded, merged: same answers",
    "cost": "seconds and memory of a step",
}
"""The names of the lines, in their order, and what people read."""

_WIDTH = 96
"""Width of the table, in columns."""
_TITLE, _STATUS, _NUMBER = 38, 16, 22
_INDENT = 4


@dataclass(frozen=True)
class CheckLine:
    """One promise, and whether it holds for a model.

    Attributes:
        name: The name of the line in JSON, one of `TITLES`.
        status: `"pass"`, `"fail"` or `"not applicable"`.
        number: What was measured; `None` if there is no single number.
        bound: The largest number that passes; `None` if there is none.
        words: What was compared, what was found and, after a failure, what it means.
        details: Further numbers, as JSON types.
        unit: What `number` counts, such as `"s"`; empty for a relative difference.
    """

    name: str
    status: Status
    number: float | None = None
    bound: float | None = None
    words: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""

    @property
    def title(self) -> str:
        """The name of the line for people."""
        return TITLES.get(self.name, self.name)

    @property
    def number_text(self) -> str:
        """The number as the table shows it."""
        return "" if self.number is None else f"{_short(self.number)}{' ' * bool(self.unit)}{self.unit}"

    @property
    def bound_text(self) -> str:
        """The bound as the table shows it."""
        return "" if self.bound is None else f"<= {_short(self.bound)}"


@dataclass
class CheckReport:
    """The result of `check_model`.

    Example:
        >>> line = CheckLine("gradients", "pass", 2.1e-7, 9.6e-6, "all weights")
        >>> report = CheckReport([line], {"model": "Tiny", "chartqa_ft": "0.1.0", "transformers": "5.24.0"})
        >>> report.ok, report.exit_code, report.summary
        (True, 0, 'checked with chartqa_ft 0.1.0 on transformers 5.24.0: 1 of 1 checks passed')
        >>> print(report)
        Tiny
        checked with chartqa_ft 0.1.0 on transformers 5.24.0: 1 of 1 checks passed
        <BLANKLINE>
         #  check                                 result          measured              bound
         1  gradient of 4x1 = 2x2 = 1x4 rows      pass            2.1e-07               <= 9.6e-06
            all weights
    """

    lines: list[CheckLine]
    """The lines, in the order of the table."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was checked, and with what: `model`, `dtype`, `device`, `records`, `seconds` and versions of packages."""

    @property
    def ok(self) -> bool:
        """Whether no line failed."""
        return not self.failed

    @property
    def failed(self) -> list[CheckLine]:
        """The lines that failed."""
        return [line for line in self.lines if line.status == "fail"]

    @property
    def exit_code(self) -> int:
        """0 if no line failed, else 1."""
        return 0 if self.ok else 1

    def __getitem__(self, name: str) -> CheckLine:
        """Return the line of a name."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no line {name!r}: there are {', '.join(line.name for line in self.lines)}")

    @property
    def summary(self) -> str:
        """The result in one sentence, as model cards show it."""
        passed = sum(line.status == "pass" for line in self.lines)
        skipped = sum(line.status == "not applicable" for line in self.lines)
        failed = f", failed: {', '.join(line.title for line in self.failed)}" if self.failed else ""
        ours, theirs = self.facts.get("chartqa_ft"), self.facts.get("transformers")
        return (
            f"checked with chartqa_ft {ours} on transformers {theirs}: "
            f"{passed} of {len(self.lines) - skipped} checks passed"
            + (f", {skipped} not applicable" if skipped else "")
            + failed
        )

    def __str__(self) -> str:
        """Return the table, at most 96 columns wide."""
        shown = ("model", "dtype", "device", "records", "bounds")
        about = [f"{'' if name == 'model' else name + ': '}{self.facts[name]}" for name in shown if name in self.facts]
        rows = [*textwrap.wrap("; ".join(about), _WIDTH), *textwrap.wrap(self.summary, _WIDTH), ""]
        rows.append(_row("#", "check", "result", "measured", "bound"))
        for number, line in enumerate(self.lines, start=1):
            status = line.status.upper() if line.status == "fail" else line.status
            rows.append(_row(str(number), line.title, status, line.number_text, line.bound_text))
            for paragraph in line.words.splitlines():
                rows += textwrap.wrap(paragraph, _WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)
        if "seconds" in self.facts:
            rows += ["", f"The check took {self.facts['seconds']:.1f} s and left the model as it was."]
        return "\n".join(row.rstrip() for row in rows)

    def to_dict(self) -> dict[str, Any]:
        """Return facts and lines as JSON types.

        Example:
            >>> CheckReport([], {"model": "Tiny"}).to_dict()
            {'model': 'Tiny', 'ok': True, 'lines': []}
        """
        lines = [as_json({"title": line.title, **asdict(line)}) for line in self.lines]
        return {**as_json(self.facts), "ok": self.ok, "lines": lines}

    def write(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON; the file appears whole or not at all.

        Example:
            >>> import tempfile
            >>> CheckReport([], {}).write(Path(tempfile.mkdtemp(), "check.json")).name
            'check.json'
        """
        return write_json(path, self.to_dict())


def _row(number: str, title: str, status: str, measured: str, bound: str) -> str:
    first = f"{number:>{_INDENT - 2}}  {title:<{_TITLE}}"
    return f"{first}{status:<{_STATUS}}{measured:<{_NUMBER}}{bound}"


def _short(number: float) -> str:
    if not math.isfinite(number):
        return str(number)
    if number == int(number) and abs(number) < 1e6:
        return f"{int(number):,}"
    return f"{number:.3g}" if 1e-2 <= abs(number) < 1e6 else f"{number:.1e}"
