"""P1 and P2: one training step of a UniChart-base, in time and in memory, against the official recipe.

    python -m tests.benchmarks.training_step [--quick] [--sizes 960 480] [--runs 5] [--flush]

Both sides take the same weights and the same rows (real charts, 1.67 or 1.5 questions on each), forward, backward,
gradients clipped at 1 and a step of Adam (the recipe's `torch.optim.Adam`, our trainer's default), in float32 on a CPU
and in bfloat16 autocast on a GPU. Preparing the batch is not counted (see `charts`). Before anything is timed the
losses and gradients of both are compared. Each run of a side is a process of its own that takes several steps, so that
what one side does to the memory of a process does not affect the other. On Intel processors, upstream's attention mask
makes numbers that are slow to compute with; `--flush` sets them to 0 on both sides with `torch.set_flush_denormal`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from torch import nn

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments
from chartqa_ft.models.swin import chunk_swin_blocks

from ..support.common import checkpointing_enable
from .measure import GIB, Report, Row, Sample, alternate, apart, arguments, ratio
from .unichart_base import POSITIONS, OfficialRecipe, real_records, unichart, use_all_cores, with_rows

BATCHES = {960: (3, 2), 480: (5, 3)}
"""Rows and charts of a step, by the side of the picture in pixels: what a CPU does in under two minutes."""
LARGER = {960: (5, 3, 22.0)}
"""Rows and charts of a step that shall fit a machine of 24 GiB, and what such a machine has for it (GiB, on a CPU)."""
GOALS = {960: ">= 2.5x (GPU: >= 3x)", 480: ">= 3.2x (GPU: >= 3x)"}
STEPS = 3
"""Steps whose median is the time of a run: each run is a process of its own, in which a first step does not count."""
PARTS = ("time", "memory", "operations")
RECOMPUTE = {"official": 0, "ours": 0, "ours, recomputing half": 2, "ours, recomputing": 1}
"""The ways to take a step, and of which encoder blocks activations are computed again: of none, of every n-th."""


class Sides:
    """The two ways to take one step with one model."""

    def __init__(
        self,
        size: int,
        rows: int,
        charts: int,
        *,
        quick: bool = False,
        side: str = "ours",
        records: Sequence[Mapping[str, Any]] | None = None,
        cuda: bool | None = None,
    ):
        records = real_records(60) if records is None else records
        self.batch_records = with_rows(records, rows, charts)
        self.model, processor = unichart(size, records, quick=quick)
        self.folder = tempfile.TemporaryDirectory()
        self.cuda = torch.cuda.is_available() and not quick if cuda is None else cuda
        args = ChartQATrainingArguments(
            output_dir=self.folder.name,
            per_device_train_batch_size=rows,
            max_steps=1,
            random_padding=False,
            report_to=[],
            disable_tqdm=True,
            use_cpu=not self.cuda,
            activation_checkpointing=True,
        )
        self.trainer = ChartQATrainer(
            self.model, args, train_dataset=[dict(row) for row in self.batch_records], processing_class=processor
        )
        self.go(side)
        self.recipe = OfficialRecipe(self.model, processor, positions=64 if quick else POSITIONS)
        device = args.device
        self.official_batch = {key: value.to(device) for key, value in self.recipe.collate(self.batch_records).items()}
        batch = next(iter(self.trainer.get_train_dataloader()))
        self.batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        self.tokens = int((self.batch["labels"] != -100).sum())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5)
        self.our_optimizer = self.trainer.create_optimizer()
        self.model.train()

    def go(self, side: str) -> None:
        """The encoder goes the way of `side`: a few windows at a time or not, and its activations are kept or not."""
        chunk_swin_blocks(self.model, side != "official")
        every = RECOMPUTE[side]
        model = self.model
        # The second name is that before transformers 5.23.
        getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)()
        if every:
            checkpointing_enable(model.encoder)(every_n_layers=every)

    def official_loss(self) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.cuda):
            return self.recipe.loss(self.official_batch)

    def our_loss(self) -> torch.Tensor:
        with self.trainer.compute_loss_context_manager():
            return self.trainer.compute_loss(self.model, self.batch, num_items_in_batch=self.tokens)

    def step(self, loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        if self.cuda:
            torch.cuda.synchronize()

    def official(self) -> None:
        self.step(self.official_loss, self.optimizer)

    def ours(self) -> None:
        self.step(self.our_loss, self.our_optimizer)

    def differences(self) -> tuple[float, float]:
        """Relative differences of the two losses, and of the gradients (L2) where both fit into memory."""
        losses, gradients = [], []
        for side, loss in (("official", self.official_loss), ("ours", self.our_loss)):
            self.go(side)
            self.optimizer.zero_grad()
            value = loss()
            value.backward()
            losses.append(value.item())
            gradients.append([p.grad.clone() for p in self.model.parameters() if p.grad is not None])
        distance = sum((a - b).double().square().sum() for a, b in zip(*gradients, strict=True)).sqrt()
        norm = sum(a.double().square().sum() for a in gradients[0]).sqrt()
        self.optimizer.zero_grad()
        return abs(losses[1] / losses[0] - 1), float(distance / norm)


def where_time_goes(sides: Sides) -> dict[str, float]:
    """Seconds of one of our steps by part. The backward pass of a part ends where that of the part before begins."""
    model, seconds, handles = sides.model, {}, []
    times: dict[tuple[str, str], float] = {}

    def now() -> float:
        if sides.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def watch(name: str, part: nn.Module) -> None:
        def mark(event: str) -> None:
            times[name, event] = now()

        def ended(module: nn.Module, args: tuple, output: Any) -> None:
            mark("ends")
            # The gradient of a part's output is there when its own backward pass begins.
            states = output if torch.is_tensor(output) else output.last_hidden_state
            states.register_hook(lambda gradient: mark("backward"))

        handles.append(part.register_forward_pre_hook(lambda *_: mark("begins")))
        handles.append(part.register_forward_hook(ended))

    order = ("head", "decoder", "encoder")
    parts = (model.get_output_embeddings(), model.decoder.get_decoder(), model.encoder)
    for name, part in zip(order, parts, strict=True):
        watch(name, part)
    started = now()
    batch = sides.trainer._collators["train"]([dict(row) for row in sides.batch_records])
    seconds["data (no workers)"] = now() - started
    del batch
    sides.optimizer.zero_grad()
    loss = sides.our_loss()
    loss.backward()
    finished = now()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    sides.our_optimizer.step()
    seconds["clip and optimizer"] = now() - finished
    for handle in handles:
        handle.remove()
    for position, name in enumerate(order):
        forward = times[name, "ends"] - times[name, "begins"]
        ends = times[order[position + 1], "backward"] if position + 1 < len(order) else finished
        seconds[name] = forward + ends - times[name, "backward"]
    return seconds


def operations(sides: Sides) -> dict[str, float]:
    """The share of one of our steps that each operation of torch takes on the CPU itself, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        sides.ours()
    seconds = {row.key: row.self_cpu_time_total for row in found.key_averages()}
    whole = sum(seconds.values())
    return {name: value / whole for name, value in sorted(seconds.items(), key=lambda item: -item[1])}


def product_rate() -> float:
    """Floating-point operations a second of one matrix product, as large as those of the encoder's third stage."""
    rows, weight = torch.randn(2400, 512), torch.randn(512, 2048)
    times = alternate({"product": lambda: torch.mm(rows, weight)}, runs=20)
    return 2 * 2400 * 512 * 2048 / times["product"].median


def memory_of(side: str, size: int, rows: int, charts: int, limit: float | None, quick: bool) -> Sample | None:
    """Peak bytes of two steps of one side, in a process of its own; `None` where they do not fit `limit` GiB."""
    try:
        spent = apart(_two_steps, side, size, rows, charts, limit, quick)
    except (RuntimeError, MemoryError, BrokenProcessPool) as error:
        print(f"  {side}: {rows} rows on {charts} charts do not fit ({str(error).splitlines()[0][:120]})")
        return None
    return Sample((float(spent.device or spent.resident),), unit="B")


def _two_steps(side: str, size: int, rows: int, charts: int, limit: float | None, quick: bool) -> None:
    use_all_cores()
    if limit and not torch.cuda.is_available():
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(limit * GIB), int(limit * GIB)))
    sides = Sides(size, rows, charts, quick=quick, side=side)
    for _ in range(2):
        sides.official() if side == "official" else sides.ours()


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", help="sides of the picture in pixels")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps in each process, after a first ({STEPS})")
    parser.add_argument("--batch", type=int, nargs=2, help="rows and charts of a step")
    parser.add_argument("--flush", action="store_true", help="set subnormal numbers to 0 in the processor, both sides")
    parser.add_argument("--limit", type=float, help="GiB that a step may hold, to see whether it fits (CPU)")
    parser.add_argument("--ways", choices=list(RECOMPUTE)[1:], nargs="*", default=["ours", "ours, recomputing"])
    parser.add_argument("--parts", choices=PARTS, nargs="*", default=PARTS)
    args = parser.parse_args(argv)
    use_all_cores()
    sizes = args.sizes or ([64] if args.quick else list(BATCHES))
    batches = {size: tuple(args.batch or BATCHES.get(size, (3, 2))) for size in sizes}
    if "memory" in args.parts:  # first, while this process has next to none itself
        out = Report("P2", args.out, args.quick)
        for size, batch in batches.items():
            measure_memory(out, size, *batch, args.limit, args.ways)
            if size in LARGER and args.batch is None:
                measure_memory(out, size, *LARGER[size], args.ways)
    for size, (rows, charts) in batches.items():
        if "time" in args.parts:
            out = Report("P1", args.out, args.quick)
            measure_time(out, size, rows, charts, args.runs, args.ways, args.steps, flush=args.flush)
        if "operations" in args.parts and not torch.cuda.is_available():
            out = Report("P1", args.out, args.quick)
            shares = operations(Sides(size, rows, charts, quick=args.quick))
            out.note(
                f"of our step at {size} px: "
                + ", ".join(f"{key} {share:.1%}" for key, share in [*shares.items()][:12])
            )
            out.note(f"a plain matrix product: {product_rate() / 1e9:.0f} GFLOP/s")


def measure_time(
    out: Report,
    size: int,
    rows: int,
    charts: int,
    runs: int,
    ways: list[str],
    steps: int = STEPS,
    *,
    flush: bool = False,
) -> None:
    work = (size, rows, charts, out.quick)
    loss, gradient = apart(_differences, *work).result
    out.note(f"{rows} rows on {charts} charts: losses differ by {loss:.1e}, gradients by {gradient:.1e} (relative)")
    sides = ("official", *ways)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(runs):
        for side in sides if number % 2 == 0 else reversed(sides):
            found = apart(_seconds_of_steps, side, *work, steps, flush).result
            seconds[side].append(statistics.median(found))
            out.note(f"run {number + 1} of {runs}, {side}: " + " ".join(f"{value:.2f}" for value in found) + " s")
    times = {side: Sample(tuple(values)) for side, values in seconds.items()}
    for side in ways:
        name = f"training step, {size} px, {rows} rows on {charts} charts ({side}{', --flush' if flush else ''})"
        peers = ratio(times["official"], times[side])
        out.add(Row(name, times[side], rows, times["official"], peers, GOALS.get(size, "-")))
    parts = apart(_where_time_goes, *work).result
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        out.note(f"{name:<20} {value:8.3f} s  {value / sum(parts.values()):6.1%}")


def _differences(size: int, rows: int, charts: int, quick: bool) -> tuple[float, float]:
    use_all_cores()
    return Sides(size, rows, charts, quick=quick).differences()


def _seconds_of_steps(
    side: str, size: int, rows: int, charts: int, quick: bool, steps: int, flush: bool = False
) -> tuple[float, ...]:
    """Seconds of each of `steps` steps of one side, after one that does not count."""
    if flush and not torch.set_flush_denormal(True):  # first, so that the threads of torch inherit it
        raise RuntimeError("this processor cannot set subnormal numbers to 0")
    use_all_cores()
    sides = Sides(size, rows, charts, quick=quick, side=side)
    return alternate({side: sides.official if side == "official" else sides.ours}, runs=steps)[side].values


def _where_time_goes(size: int, rows: int, charts: int, quick: bool) -> dict[str, float]:
    use_all_cores()
    sides = Sides(size, rows, charts, quick=quick)
    sides.ours()
    return where_time_goes(sides)


def measure_memory(out: Report, size: int, rows: int, charts: int, limit: float | None, ways: list[str]) -> None:
    peaks = {side: memory_of(side, size, rows, charts, limit, out.quick) for side in ("official", *ways)}
    for side in ways:
        if peaks[side] is not None:
            peer = peaks["official"]
            part = None if peer is None else ratio(peaks[side], peer)
            work = f"memory of a step, {size} px, {rows} rows on {charts} charts ({side})"
            out.add(Row(work, in_gib(peaks[side]), rows, None if peer is None else in_gib(peer), part, "<= 0.5x"))


def in_gib(bytes_: Sample) -> Sample:
    return Sample(tuple(value / GIB for value in bytes_.values), unit="GiB")


if __name__ == "__main__":
    main()
