"""Kill short trainings (-9) at random moments, resume them, and compare what they leave with unbroken runs.

    python -m tests.drivers.kill_runs --kills 40 --seed 0     # make test-kills; make test-kills KILLS=10

Full fine-tuning and LoRA, one process and two, killed in training, in an evaluation, in a save and in the deletion of
old checkpoints (`save_total_limit=2` beside the best). Each run is then resumed with `resume_from_checkpoint=True`, or
starts again if no checkpoint was complete. Weights, optimizer, schedule, random state, log and scores must equal those
of the unbroken run, bit by bit.

A moment in a deletion, and half of those in a save, is a file operation, which an audit hook counts. The others are a
random time after a phase began, which also meets files that are half written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from chartqa_ft import default_lora_config
from chartqa_ft.training import last_checkpoint
from chartqa_ft.training import trainer as trainer_module
from tests.support.common import drawn_charts, tiny, trainer
from tests.support.launching import without_times

PHASES = ("training", "evaluation", "saving", "rotation")
KINDS = [(processes, lora) for processes in (1, 2) for lora in (False, True)]
TIMEOUT = 120
FILE_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"})
DROPOUT = {"dropout": 0.1, "drop_path_rate": 0.1}
SETTINGS = {
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 3e-3,
    "random_padding": True,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 2,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "generation_max_new_tokens": 3,
    "log_level": "error",
}


@dataclass(frozen=True)
class Moment:
    """When a run is killed: in a phase, at its `number`-th occurrence."""

    phase: str
    number: int
    operation: int | None = None
    """The file operation of the phase at which the process kills itself."""
    seconds: float = 0.0
    """Without `operation`, the time after the beginning of the phase."""


@dataclass
class Told:
    """What a process has told about its phases."""

    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    operations: dict[tuple[str, int], int] = field(default_factory=dict)
    last: tuple[str, int] = ("", 0)

    def take(self, line: str) -> None:
        phase, number, operations, seconds, began = json.loads(line)
        if began:
            self.last = phase, number
        else:
            self.seconds[phase, number], self.operations[phase, number] = seconds, operations


# ---------------------------------------------------------------------- in the processes that are killed
class Phases(TrainerCallback):
    """Tells a file descriptor of the phases of a training, and kills its process at a file operation."""

    def __init__(self, report: int, moment: Moment | None) -> None:
        self.report, self.moment = report, moment
        self.name, self.seen, self.operations, self.began = "", Counter(), 0, 0.0
        sys.addaudithook(self.audit)

    def enter(self, name: str) -> None:
        if name == self.name:
            return
        now = time.monotonic()
        if self.name:
            self.tell(now - self.began, began=False)
        self.name, self.operations, self.began = name, 0, now
        self.seen[name] += 1
        self.tell(0.0, began=True)

    def tell(self, seconds: float, *, began: bool) -> None:
        line = json.dumps([self.name, self.seen[self.name], self.operations, seconds, began])
        os.write(self.report, f"{line}\n".encode())

    def audit(self, event: str, _: Any) -> None:
        if event in FILE_EVENTS:
            self.operations += 1
            moment = self.moment
            if moment is not None and (moment.phase, moment.number, moment.operation) == (
                self.name,
                self.seen[self.name],
                self.operations,
            ):
                os.kill(os.getpid(), signal.SIGKILL)

    def on_step_begin(self, args, state, control, **kwargs):
        self.enter("training")

    def on_prediction_step(self, args, state, control, **kwargs):
        self.enter("evaluation")

    def watch(self, run: Any) -> None:
        """Enter the phases that no callback is told of."""
        save, delete = run._save_checkpoint, trainer_module.delete_old_checkpoints

        def saving(*args: Any) -> None:
            self.enter("saving")
            save(*args)
            self.enter("training")

        def rotating(*args: Any) -> list[Path]:
            self.enter("rotation")
            return delete(*args)

        run._save_checkpoint, trainer_module.delete_old_checkpoints = saving, rotating


def train(out: Path, *, lora: bool, report: int, moment: Moment | None) -> None:
    """Train to the end, from the newest complete checkpoint if there is one, and write what has come out."""
    phases = Phases(report, moment)
    model, _ = tiny(**DROPOUT)
    run = trainer(
        out,
        model=model,
        eval_dataset=drawn_charts().select(range(3)),
        peft_config=default_lora_config(model, r=2, lora_dropout=0.1) if lora else None,
        callbacks=[phases],
        **SETTINGS,
    )
    phases.watch(run)
    run.train(resume_from_checkpoint=True if last_checkpoint(out) else None)
    if run.is_world_process_zero():
        weights = hashlib.sha256()
        for name, weight in sorted(run.model.state_dict().items()):
            weights.update(name.encode() + weight.numpy().tobytes())
        found = {
            "weights": weights.hexdigest(),
            "log": [without_times(entry) for entry in run.state.log_history],
            "best": [run.state.best_global_step, run.state.best_metric],
            "scores": {step: without_times(result.metrics) for step, result in run.scores.items()},
        }
        (out / "found.json").write_text(json.dumps(found))


# ---------------------------------------------------------------------- from outside
def fork(call: Any, environment: dict[str, str], log: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(out: Path, log: Path, *, processes: int, lora: bool, moment: Moment | None = None) -> tuple[Told, bool]:
    """Run a training in child processes; returns what they told, and whether they were killed.

    Raises:
        RuntimeError: it failed, or took longer than `TIMEOUT` seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = os.pipe()
    silent = os.open(os.devnull, os.O_WRONLY)
    children = []
    for rank in range(processes):
        several = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        environment = {**several, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if processes > 1 else {}

        def call(rank: int = rank) -> None:
            train(out, lora=lora, report=silent if rank else ends[1], moment=None if rank else moment)

        children.append(fork(call, {name: str(value) for name, value in environment.items()}, log))
    os.close(ends[1])
    os.close(silent)
    told, text, kill_at, failed = Told(), "", None, False
    codes: dict[int, int] = {}
    deadline = time.monotonic() + TIMEOUT
    while len(codes) < processes:
        if select.select([ends[0]], [], [], 0.002)[0]:
            *lines, text = (text + os.read(ends[0], 1 << 16).decode()).split("\n")
            for line in lines:
                told.take(line)
                if moment and kill_at is None and told.last == (moment.phase, moment.number):
                    kill_at = time.monotonic() + moment.seconds
        for child in set(children) - set(codes):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
        dead = -signal.SIGKILL in codes.values()
        failed = failed or time.monotonic() > deadline or (any(codes.values()) and not dead)
        due = moment is not None and moment.operation is None and kill_at is not None and time.monotonic() >= kill_at
        if dead or failed or (due and not codes):
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
                codes[child] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for line in (text + os.read(ends[0], 1 << 16).decode()).split("\n")[:-1]:
        told.take(line)
    os.close(ends[0])
    if failed:
        raise RuntimeError(f"exit {sorted(codes.values())}:\n{log.read_text()[-3000:]}")
    return told, -signal.SIGKILL in codes.values()


def draw(told: Told, phase: str, generator: random.Random) -> Moment:
    """Draw a moment of a phase: any of its occurrences in the unbroken run, and any moment in it."""
    number = generator.choice([number for name, number in told.seconds if name == phase])
    operations = told.operations[phase, number]
    if operations and (phase == "rotation" or (phase == "saving" and generator.random() < 0.5)):
        return Moment(phase, number, operation=generator.randint(1, operations))
    return Moment(phase, number, seconds=generator.uniform(0, told.seconds[phase, number]))


def differences(out: Path, wanted: Path) -> list[str]:
    """Return what differs between two finished runs."""
    found = [json.loads((folder / "found.json").read_text()) for folder in (out, wanted)]
    names = [name for name in found[1] if found[0][name] != found[1][name]]
    last = f"checkpoint-{SETTINGS['max_steps']}"
    for file in sorted((wanted / last).glob("*")):
        if file.suffix in (".safetensors", ".pt", ".pth"):
            first, second = (_content(folder / last / file.name) for folder in (out, wanted))
            if not _same(first, second):
                names.append(file.name)
    return names


def _content(file: Path) -> Any:
    return file.read_bytes() if file.suffix == ".safetensors" else torch.load(file, weights_only=False)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool((first == second).all()) if hasattr(first, "all") else first == second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.getLogger("chartqa_ft").setLevel(logging.ERROR)  # what is skipped is expected here
    tiny(**DROPOUT), tiny(), drawn_charts()  # once, for all children
    generator = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_runs_"))
    unbroken: dict[tuple[int, bool], Told] = {}
    good, where = 0, Counter()
    for number in range(options.kills):
        processes, lora = kind = KINDS[number % len(KINDS)]
        phase = PHASES[number // len(KINDS) % len(PHASES)]
        wanted = folder / f"unbroken-{processes}-{lora}"
        if kind not in unbroken:
            unbroken[kind], _ = run(wanted, folder / "log", processes=processes, lora=lora)
        for attempt in count():
            out, log = folder / f"{number}-{attempt}", folder / f"{number}-{attempt}.log"
            moment = draw(unbroken[kind], phase, generator)
            told, killed = run(out, log, processes=processes, lora=lora, moment=moment)
            if killed:  # else it was over before
                break
        marked = sum(name == "rotation" for name, _ in {**told.seconds, told.last: 0.0})
        newest = last_checkpoint(out)
        step = int(newest.rpartition("-")[2]) if newest else 0
        run(out, log, processes=processes, lora=lora)
        wrong = differences(out, wanted)
        if step < marked:
            wrong.append(f"step {marked} was complete, and the newest complete checkpoint is of step {step}")
        good += not wrong
        where[told.last[0]] += 1
        kind_name = f"{'LoRA' if lora else 'full'}, {processes} process{'es' * (processes > 1)}"
        at = f"file operation {moment.operation}" if moment.operation else f"{moment.seconds:.3f} s"
        outcome = "differs in " + ", ".join(wrong) if wrong else "equal"
        print(
            f"{number + 1:3d} {kind_name}: {' '.join(map(str, told.last))}, {at}; from step {step}: {outcome}",
            flush=True,
        )
        if not wrong:
            shutil.rmtree(out)
    print("killed in", ", ".join(f"{phase} {where[phase]}" for phase in PHASES))
    print(f"{good} of {options.kills} killed runs ended as the unbroken run")
    if good == options.kills:
        shutil.rmtree(folder)
    else:
        print(f"what differs is in {folder}")
    return int(good < options.kills)


if __name__ == "__main__":
    sys.exit(main())
