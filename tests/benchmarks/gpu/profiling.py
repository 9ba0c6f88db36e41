"""Where the time of one of our steps goes: by part of the model, and by operation of the device."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity

from ..training_step import Sides, where_time_goes
from .report import PartResult
from .setting import Setting
from .speed import STEPS

SHOWN = 12


def profile_step(setting: Setting, part: PartResult, size: int) -> None:
    """Profile a step of UniChart-base."""
    rows, charts = (3, 2) if setting.tiny else STEPS[size]
    sides = Sides(size, rows, charts, quick=setting.tiny, records=setting.records(30), cuda=setting.cuda)
    sides.ours()
    seconds = where_time_goes(sides)
    whole = sum(seconds.values())
    parts = ", ".join(f"{name} {value / whole:.1%}" for name, value in sorted(seconds.items(), key=lambda p: -p[1]))
    part.note(f"parts of our step at {size} px ({whole:.3g} s): {parts}")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.cuda else [])]
    with torch.profiler.profile(activities=activities) as found:
        sides.ours()
    times = {row.key: own_time(row, setting) for row in found.key_averages()}
    whole = sum(times.values()) or 1.0
    first = sorted(times.items(), key=lambda item: -item[1])[:SHOWN]
    part.note(f"operations of our step at {size} px: " + ", ".join(f"{key} {t / whole:.1%}" for key, t in first))


def own_time(row: Any, setting: Setting) -> float:
    """The microseconds that an operation took itself, on the device."""
    return float(row.self_device_time_total if setting.cuda else row.self_cpu_time_total)
