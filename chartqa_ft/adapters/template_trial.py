"""Try a chat template in a process of its own first: templates come with checkpoints, and some never end.

Chat templates are programs. transformers runs them in a sandbox that keeps them from files and code, but not from
loops of billions of rounds or texts of gigabytes.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

__all__ = ["check_template_ends"]

SECONDS = 10
"""Time limit of a trial. Usual templates take milliseconds."""
_START_SECONDS = 120
_LONGEST = 10_000_000
"""Characters of the text that a trial may make."""
_MEMORY = 2 << 30
"""Bytes that the process may use, where the operating system can limit it."""
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
memory, longest = int(sys.argv[2]), int(sys.argv[3])
from transformers.utils.chat_template_utils import render_jinja_template
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
except (ImportError, OSError, ValueError):
    pass
print("ready", flush=True)
for line in sys.stdin:
    wish, answer, length = json.loads(line), "done", 0
    try:
        for chat in wish["chats"]:
            for prompt in (True, False):
                text = render_jinja_template(
                    [chat], chat_template=wish["template"], add_generation_prompt=prompt, **wish["values"]
                )
                text = text[0] if isinstance(text, tuple) else text
                length += sum(map(len, text))
    except MemoryError:
        answer = "memory"
    except Exception:  # the caller sees it when the template is used
        pass
    print("length" if length > longest else answer, flush=True)
"""
_WRONG = {
    "length": f"makes a text of more than {_LONGEST:,} characters",
    "memory": f"needs more than {_MEMORY >> 30} GiB of memory",
    "": f"does not end within {SECONDS} seconds, or crashes",
}


def check_template_ends(template: Any, chats: Sequence[Any], values: Mapping[str, Any]) -> None:
    """Check that a chat template formats conversations in bounded time and memory.

    Each template is tried once per process.

    Args:
        template: the Jinja template, or a dict of several.
        chats: conversations to format.
        values: variables of the template besides the conversation, such as the special tokens.

    Raises:
        ValueError: it takes too long, too much memory, or makes too long a text.

    Example:
        >>> check_template_ends("{{ messages[0].content }}", [[{"role": "user", "content": "Hi"}]], {})
        >>> check_template_ends("{{ 'a' * 6000000 }}", [[{"role": "user", "content": "Hi"}]], {})
        Traceback (most recent call last):
        ...
        ValueError: the chat template makes a text of more than 10,000,000 characters
    """
    for one in template.values() if isinstance(template, Mapping) else [template]:
        if isinstance(one, str):
            wish = json.dumps({"template": one, "chats": chats, "values": values}, default=str)
            wrong = _TRIAL.wrong_with(wish)
            if wrong is not None:
                raise ValueError(f"the chat template {wrong}")


class _Trial:
    """A process that formats conversations, started when it is first needed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.owner: int | None = None
        self.passed: set[int] = set()
        self.lock = threading.Lock()

    def wrong_with(self, wish: str) -> str | None:
        """Return what is wrong with a template; `None` if nothing is, or if no process can be started."""
        with self.lock:
            if hash(wish) in self.passed:
                return None
            if (process := self._running()) is None:
                return None
            answer = _ask(process, wish, SECONDS)
            if answer == "done":
                self.passed.add(hash(wish))
                return None
            if not answer:
                process.wait()
            return _WRONG[answer]

    def _running(self) -> subprocess.Popen[str] | None:
        # After a fork, the pipes belong to the parent.
        if self.process is not None and self.owner == os.getpid() and self.process.poll() is None:
            return self.process
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(_MEMORY), str(_LONGEST)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            logger.debug("chat templates are not tried before they are used: %s", error)
            return None
        if _ask(process, "", _START_SECONDS) != "ready":
            logger.debug("chat templates are not tried before they are used: the process did not start")
            process.kill()
            return None
        self.process, self.owner = process, os.getpid()
        return process

    def close(self) -> None:
        """End the process."""
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            self.process.wait()


def _ask(process: subprocess.Popen[str], wish: str, seconds: float) -> str:
    """Return the next answer of a process, after a wish if it is not empty; `""` if it is killed or ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        if wish:
            process.stdin.write(wish + "\n")
            process.stdin.flush()
        return process.stdout.readline().strip()
    except OSError:
        return ""
    finally:
        timer.cancel()


_TRIAL = _Trial()
atexit.register(_TRIAL.close)
