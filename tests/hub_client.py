"""A process with the real clients in it that a test calls into: functions by name, results and exceptions back.

The clients read their settings when they are imported, so the process starts with those of `hub_server.environment`,
and imports them itself. It stays for many calls, because importing takes longer than most of them; between two calls
a test orders faults.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any

from .support.fork_server import of_others

ROOT = Path(__file__).resolve().parents[1]


class ClientError(Exception):
    """What a function raised in the other process.

    Attributes:
        kinds: names of its class and of the classes that it stands on: `["HfHubHTTPError", "HTTPError", "OSError"]`.
        message: as `str` gives it.
        trace: the whole report with its causes.
    """

    def __init__(self, kinds: list[str], message: str, trace: str):
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds, self.message, self.trace = kinds, message, trace

    @property
    def kind(self) -> str:
        return self.kinds[0]


class Client:
    """Run a Python with the clients; as a context manager it ends the process.

    Args:
        environment: all variables of the process.
        log: file that everything goes to that the process says.
    """

    def __init__(self, environment: dict[str, str], log: Path):
        self.log = log
        (stdin, calls), (answers, stdout) = os.pipe(), os.pipe()
        self._calls, self._answers = os.fdopen(calls, "wb"), os.fdopen(answers, "rb")
        with log.open("wb") as file:
            streams = {"stdin": stdin, "stdout": stdout, "stderr": file}
            self.process = of_others().start(["-m", "tests.hub_client"], environment=environment, cwd=ROOT, **streams)
        os.close(stdin)
        os.close(stdout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):  # a call that the process did not read
            self._calls.close()

    def call(self, name: str, *arguments: Any, timeout: float = 120, **named: Any) -> Any:
        """Call a function, `"package.module.function"`. Arguments and result go as JSON, what has none as `str`.

        Raises:
            ClientError: the function raised it.
            TimeoutError: it took longer than `timeout` seconds.
            EOFError: the process is gone.
        """
        self.start(name, *arguments, **named)
        if not select.select([self._answers], [], [], timeout)[0]:
            raise TimeoutError(f"{name} takes longer than {timeout} s\n{self.log.read_text()[-4000:]}")
        line = self._answers.readline()
        if not line:
            raise EOFError(f"the process ended in {name}\n{self.log.read_text()[-4000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(**answer["error"])
        return answer["result"]

    def start(self, name: str, *arguments: Any, **named: Any) -> None:
        """Call a function without waiting for its end, for a process that is to be killed in the middle of it."""
        self._calls.write(json.dumps([name, arguments, named], default=str).encode() + b"\n")
        self._calls.flush()


def serve() -> None:
    """Take calls from stdin, answer on stdout; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments, named = json.loads(line)
        module, _, function = name.rpartition(".")
        try:
            result = getattr(importlib.import_module(module), function)(*arguments, **named)
            answer = {"result": result}
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__[:-1]]
            answer = {"error": {"kinds": kinds, "message": str(error), "trace": traceback.format_exc()}}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    serve()
