"""Two ranks shard tiny models with FSDP2 on the CPU, and each answers questions of its own.

    python answer_in_lockstep.py FOLDER

FOLDER gets `result-<rank>.json` from every rank: per job the answers, those of the whole model, and how often the
modules ran.
"""

from __future__ import annotations

import copy
import json
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from chartqa_ft import answer_questions
from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.lockstep import is_sharded
from tests.support import families
from tests.support.common import drawn_charts, tiny
from tests.support.family_cases import ready


def confident() -> tuple[torch.nn.Module, Any]:
    """A tiny UniChart whose answers differ in length from question to question."""
    model, processor = tiny()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model, processor


def shard(model: torch.nn.Module) -> None:
    """Shard the blocks that a model does not split, and the rest of it as a whole, as accelerate does."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("ranks",))
    for module in list(model.modules()):
        if type(module).__name__ in ("DonutSwinStage", "MBartDecoderLayer"):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def count_passes(model: torch.nn.Module) -> Counter:
    seen: Counter = Counter()
    for name, module in model.named_modules():
        if name in ("encoder", "decoder", ""):
            module.register_forward_pre_hook(lambda *_, name=name: seen.update([name]))
    return seen


def run(model: torch.nn.Module, processor: Any, rows: list[dict], **settings: Any) -> dict[str, Any]:
    images, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    adapter = adapter_for(model, processor)
    whole = copy.deepcopy(model)
    own = count_passes(whole)
    alone = answer_questions(whole, processor, images, questions, adapter=adapter, progress=False, **settings)
    shard(model)
    passes = count_passes(model)
    answers = answer_questions(model, processor, images, questions, adapter=adapter, progress=False, **settings)
    return {"answers": answers, "alone": alone, "passes": dict(passes), "calls": dict(own), "sharded": is_sharded(model)}


def main(folder: Path) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    charts = [dict(row) for row in drawn_charts()]
    few, many = charts[:2], charts[2:13]
    rows = many if rank else few
    jobs = {
        "greedy": run(*confident(), rows, batch_size=4, max_new_tokens=6),
        "beams": run(*confident(), rows, batch_size=4, max_new_tokens=6, num_beams=3),
    }
    result = {"sharded": all(job.pop("sharded") for job in jobs.values()), "jobs": jobs}
    (folder / f"result-{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    dist.destroy_process_group()
