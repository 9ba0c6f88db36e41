"""Processes that start with their imports made: a server imports once, and forks a process for every request.

A fresh Python needs seconds of processor time to import torch and transformers, a forked process none. The server does
nothing but import, so a forked process is otherwise as a fresh Python: it has its own environment, arguments, streams
and session, runs its program as `__main__`, and ends as a Python does. Two things are those of the server: the seed of
string hashes, and settings that a module reads from the environment when it is imported.

    python -m tests.support.fork_server MODULE [MODULE ...] < SOCKET
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
# They read no settings of the Hub, so that every process can have its own.
OF_OTHERS = (
    *("numpy", "pandas", "pyarrow.parquet", "PIL.Image", "scipy.stats", "sympy", "jinja2", "yaml", "fsspec"),
    *("httpx", "httpx2"),  # one of them is that of huggingface_hub
    *("torch.distributed.fsdp", "torch.distributed.device_mesh", "torch._dynamo", "torch.utils.data"),
)


class HasFileno(Protocol):
    """A file or a socket."""

    def fileno(self) -> int: ...


class Started:
    """A process of the server, in a session of its own.

    Attributes:
        pid: its number.
        returncode: as that of `subprocess.Popen`; `None` before `wait` or `poll` has seen the end.
    """

    def __init__(self, control: socket.socket):
        self._control = control
        number = control.recv(100)
        assert number, "the server has ended: stderr says why"
        self.pid = int(number)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            TimeoutError: the process goes on after `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._control], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} did not end within {timeout} seconds")
            self.returncode = int(self._control.recv(100))
            self._control.close()
        return self.returncode

    def fileno(self) -> int:
        """What becomes readable at the end of the process, for `select`."""
        return self._control.fileno()

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def kill(self) -> None:
        """Kill the process and those that it has started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(60)


class Server:
    """A process that has imported `modules`, and ends with this one.

    Args:
        environment: all its variables.
        modules: their names.
        parent: a server that has imported some of them.
    """

    def __init__(self, environment: dict[str, str], modules: Sequence[str], parent: Server | None = None):
        self._requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ["-m", "tests.support.fork_server", *modules]
        with other:
            if parent is None:
                self._process = subprocess.Popen([sys.executable, *arguments], stdin=other, env=environment, cwd=ROOT)
            else:
                self._process = parent.start(arguments, environment=environment, stdin=other, cwd=ROOT)
        atexit.register(self.close)

    def start(
        self,
        arguments: Sequence[str | Path],
        *,
        environment: dict[str, str],
        cwd: Path | str | None = None,
        stdin: HasFileno | int | None = None,
        stdout: HasFileno | int = 1,
        stderr: HasFileno | int = 2,
    ) -> Started:
        """Start `python *arguments`: a script, `-m module` or `-c code`, and arguments."""
        request = {"arguments": list(map(str, arguments)), "environment": environment, "cwd": str(cwd or os.getcwd())}
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other, open(os.devnull) as nothing:
            streams = [nothing if stdin is None else stdin, stdout, stderr, other]
            numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
            socket.send_fds(self._requests, [json.dumps(request).encode()], numbers)
        return Started(control)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may have ended, with a report on stderr
            self._requests.shutdown(socket.SHUT_RDWR)
        self._process.wait(60)


@cache
def of_others() -> Server:
    """The one of this process that has imported nothing that reads settings of the Hub."""
    there = [name for name in OF_OTHERS if importlib.util.find_spec(name.partition(".")[0]) is not None]
    return Server({**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, there)


# ---------------------------------------------------------------- in the server


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for every request, until the tests have ended. Returns in a process that is to run one."""
    tasks = Path("/proc/self/task").iterdir()
    threads = {(task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()}
    # That of pyarrow's allocator is started anew in every process that is forked.
    assert threads <= {"jemalloc_bg_thd"}, f"{threads}: a fork would lose them with the locks that they hold"
    keepers = set()
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            while keepers:
                os.waitpid(keepers.pop(), 0)
            os._exit(0)
        keeper = os.fork()
        if keeper == 0:
            break
        keepers.add(keeper)
        keepers -= {one for one in keepers if os.waitpid(one, os.WNOHANG)[0]}
        for file in files:
            os.close(file)
    requests.close()
    *streams, control = files
    process = os.fork()
    if process == 0:
        os.setsid()
        os.write(control, str(os.getpid()).encode())
        os.close(control)
        for number, file in enumerate(streams):
            os.dup2(file, number)
            os.close(file)
        return json.loads(message)
    keep(process, socket.socket(fileno=control), streams)


def keep(process: int, control: socket.socket, streams: list[int]) -> None:
    """Tell at the end of the process how it ended; end it where the test that has started it is gone."""
    for file in [0, 1, 2, *streams]:  # who reads them waits for the end of all writers
        os.close(file)
    ended = os.pidfd_open(process)
    if control in select.select([control, ended], [], [])[0]:
        os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):
        control.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Run the program of the request as if this Python had been started for it."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fingerprint = sys.modules.get("datasets.fingerprint")
    if fingerprint:  # as random as in a fresh Python: ranks may share a cache
        fingerprint.fingerprint_rng.seed()
    kind, *rest = request["arguments"]
    if kind == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv, sys.path[0] = [kind, *rest], str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def main(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # the end of a forked process would otherwise go through all objects, and copy their memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they this server
    become(serve(socket.socket(fileno=os.dup(0))))


if __name__ == "__main__":
    main(sys.argv[1:])
