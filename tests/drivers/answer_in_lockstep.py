"""Two ranks shard tiny models with FSDP2 on the CPU, and each answers questions of its own.

    python answer_in_lockstep.py FOLDER

FOLDER gets `result-<rank>.json` from every rank: per job the answers of the sharded model and of the whole one
(`alone`), and the number of passes of the modules that gather weights, and of all modules of the whole one (`own`).
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from chartqa_ft import answer_questions
from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.adapters.compat.model import apply_legacy_model
from chartqa_ft.adapters.lockstep import is_sharded
from tests.support import families
from tests.support.common import drawn_charts, tiny
from tests.support.family_cases import ready


def confident() -> tuple[torch.nn.Module, Adapter]:
    """A tiny UniChart whose answers differ in length from question to question."""
    model, processor = tiny()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model, adapter_for(model, processor)


def shard(model: torch.nn.Module) -> None:
    """Shard the blocks that a model does not split, and the rest of it as a whole, as accelerate does."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("ranks",))
    blocks = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for module in list(model.modules())[:0:-1]:  # inner blocks first
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def count_passes(modules: Iterable[torch.nn.Module]) -> list[int]:
    """Return a list whose only number counts the passes of these modules from now on."""
    seen = [0]

    def count(*_: Any) -> None:
        seen[0] += 1

    for module in modules:
        module.register_forward_pre_hook(count)
    return seen


def answer(model: torch.nn.Module, adapter: Adapter, rows: list[dict], **settings: Any) -> dict[str, Any]:
    images, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    arguments = {"adapter": adapter, "progress": False, "batch_size": 4, "max_new_tokens": 6, **settings}
    whole = copy.deepcopy(model)
    own = count_passes(whole.modules())
    alone = answer_questions(whole, adapter.processor, images, questions, **arguments)
    shard(model)
    passes = count_passes(module for module in model.modules() if isinstance(module, FSDPModule))
    answers = answer_questions(model, adapter.processor, images, questions, **arguments)
    return {
        "sharded": [is_sharded(whole), is_sharded(model)],
        "answers": answers,
        "alone": alone,
        "passes": passes[0],
        "own": own[0],
    }


def main(folder: Path) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    charts = [dict(row) for row in drawn_charts()]
    rows = charts[2:13] if rank else charts[:2]
    jobs = {"greedy": answer(*confident(), rows), "beams": answer(*confident(), rows, num_beams=3)}
    model, adapter = confident()
    apply_legacy_model(model)
    jobs["legacy beams"] = answer(model, adapter_for(model, adapter.processor), rows, num_beams=3)
    records = families.records(9)
    for name in families.FAMILIES:
        jobs[name] = answer(*ready(name), records[1:] if rank else records[:1])
    (folder / f"result-{rank}.json").write_text(json.dumps(jobs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    dist.destroy_process_group()
