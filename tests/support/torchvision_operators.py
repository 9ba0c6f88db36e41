"""Make a torchvision that was built for CUDA importable beside a torch for CPUs.

There is no build of torchvision for this torch on PyPI. Its image transforms are plain torch; only the import fails,
because operators that they do not use are not registered. `make families-torchvision` imports this module first.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import torch

KEPT: list[torch.library.Library] = []
"""Operators are gone when their library is deleted."""


def define_operators() -> None:
    """Declare the operators of torchvision, without an implementation, once per process."""
    spec = importlib.util.find_spec("torchvision")
    if KEPT or spec is None or not spec.submodule_search_locations:
        return
    source = (Path(spec.submodule_search_locations[0]) / "_meta_registrations.py").read_text(encoding="utf-8")
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted({*re.findall(r"torchvision::(\w+)", source), *re.findall(r'register_meta\("(\w+)"', source)}):
        library.define(f"{name}(Tensor x) -> Tensor")
    KEPT.append(library)


if os.environ.get("CHARTQA_FAMILIES") == "torchvision":
    define_operators()
