"""What all parts share: the device, the sizes, the charts, and how long there is left."""

from __future__ import annotations

import gc
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from chartqa_ft.data.synthetic.drawing import CHART_TYPES, draw_chart
from chartqa_ft.data.synthetic.questions import ask, make_chart

QUESTIONS = (2, 2, 1)
"""Questions on each chart, in turns: 1.67 a chart, as on ChartQA's charts."""


@dataclass(frozen=True)
class Setting:
    """Where and in which sizes everything runs."""

    device: torch.device
    tiny: bool
    folder: Path
    families: tuple[str, ...]
    runs: int

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of a batch on the device."""
        return {key: value.to(self.device) if torch.is_tensor(value) else value for key, value in batch.items()}

    def records(self, charts: int) -> list[dict[str, Any]]:
        """Questions on drawn charts, which are files of their own, 1.67 on each."""
        side = 96 if self.tiny else 600
        made = []
        for index in range(charts):
            chart = make_chart(0, index, CHART_TYPES[index % len(CHART_TYPES)])
            path = self.folder / f"chart-{side}-{index}.png"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_chart(chart, side).save(path)
            questions = ask(chart, random.Random(index))
            made += [
                {"image": str(path), "question": one.question, "answer": one.answer, "chart_id": path.name}
                for one in questions[: QUESTIONS[index % len(QUESTIONS)]]
            ]
        return made


class OutOfTime(BaseException):
    """The time of the whole run is over; no `Exception`, so that no part takes it for a failure."""


@dataclass
class Budget:
    """The time of the whole run."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def spent(self) -> float:
        return self.clock() - self.started

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise `OutOfTime` in the context when the time is over, whatever is running."""

        def stop(*_: Any) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def free(setting: Setting) -> None:
    """Give back what earlier parts held on the device."""
    gc.collect()
    if setting.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(setting: Setting, work: Callable[[], Any], times: int = 2) -> int | None:
    """The most bytes on the GPU during `times` calls; `None` on a CPU, where a process of its own would be needed."""
    if not setting.cuda:
        return None
    free(setting)
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|, in float64 on the CPU."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def different(found: Sequence[Any], expected: Sequence[Any]) -> int:
    """How many of two lists of answers differ."""
    return sum(a != b for a, b in zip(found, expected, strict=True))
