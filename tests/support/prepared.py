"""Run scripts, drivers and code in processes that start with all imports made, alone or as ranks.

A start costs hundredths of a second, in place of the seconds that a fresh Python imports. Where the launcher is what
is tested, or that a Python starts from nothing, `common.run` runs one.
"""

from __future__ import annotations

import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch.distributed import TCPStore

from .common import environment
from .fork_server import HasFileno, Server, of_others

MODULES = (
    *("transformers.trainer", "peft", "datasets", "tests.support.family_cases", "tests.support.launching"),
    *("chartqa_ft.scripts.running", "chartqa_ft.scripts.loading"),
)


@cache
def server() -> Server:
    """The one of this process that has imported what the tests train with, without a Hub."""
    return Server(environment(), MODULES, parent=of_others())


class Ranks:
    """The ranks of a program, or its only process, with the variables that `torchrun` sets for them."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        processes: int = 1,
        *,
        stdout: HasFileno,
        stderr: HasFileno,
        by: Server | None = None,
    ):
        variables, ranks = environment(), [{}]
        if processes > 1:
            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
            variables |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": str(processes)}
            variables |= {"LOCAL_WORLD_SIZE": str(processes)}
            ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        self.started = [
            (by or server()).start(arguments, environment=variables | rank, stdout=stdout, stderr=stderr)
            for rank in ranks
        ]

    def wait(self, timeout: float) -> None:
        """Wait until all have ended.

        Raises:
            ChildProcessError: one of them failed; the others may wait for it forever.
            TimeoutError: not all have ended within `timeout` seconds.
        """
        end, left = time.monotonic() + timeout, list(self.started)
        while left:
            ready, _, _ = select.select(left, [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"did not end within {timeout} seconds")
            for rank in ready:
                left.remove(rank)
                if rank.wait():
                    raise ChildProcessError(f"rank {self.started.index(rank)} ended with {rank.returncode}")

    def kill(self) -> None:
        for rank in self.started:
            rank.kill()


def run_prepared(
    arguments: Sequence[str | Path], processes: int = 1, *, by: Server | None = None, timeout: float = 400
) -> subprocess.CompletedProcess:
    """Run `python *arguments`, as so many ranks, to the end; fails the test with its output when one of them fails.

    Args:
        by: the server that forks them, if not `server()`.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        ranks, failure = Ranks(arguments, processes, stdout=stdout, stderr=stderr, by=by), ""
        try:
            ranks.wait(timeout)
        except (ChildProcessError, TimeoutError) as error:
            failure = str(error)
        finally:
            ranks.kill()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read())
    assert not failure, f"{' '.join(map(str, arguments))}: {failure}\n{texts[0][-3000:]}\n{texts[1][-6000:]}"
    return subprocess.CompletedProcess(list(arguments), 0, *texts)
