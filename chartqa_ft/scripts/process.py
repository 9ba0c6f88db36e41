"""Run the `main` function of a script as a process of its own, under a launcher or without one."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["run_script", "tell_launcher", "usage"]


def run_script(main: Callable[..., Any], **settings: Any) -> None:
    """Run the `main` function of a script, then destroy the process group.

    Threads of the process group that are still alive at exit would abort the process, so everything that refers to it,
    such as a trainer with its model, is freed before. `main` has to import torch._dynamo, as transformers does, before
    it creates the group: DistributedDataParallel imports it otherwise, and what is imported then is never freed.

    Args:
        main: The function to run.
        **settings: Its arguments.

    Example:
        >>> run_script(lambda: print("trained"))
        trained
    """
    try:
        main(**settings)
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            tell_launcher(stopped.code)
        raise
    if "accelerate" in sys.modules:  # else there is no process group
        from accelerate import PartialState

        # A trainer is in a cycle with its callbacks. Its DistributedDataParallel must not be the last to refer to the
        # group: it would wait for the threads of the group while it holds the lock of Python that they wait for.
        gc.collect()
        PartialState().destroy_process_group()


def tell_launcher(message: str) -> None:
    """Hand a message to torchrun, which ends its report of the failed processes with it.

    `torchrun` and `accelerate launch` with several processes name a file for it. With one process, `accelerate launch`
    prints a traceback of its own after the message, unless it is started with `--quiet`.

    Args:
        message: Why this process ends, in one line.

    Example:
        >>> import os, tempfile
        >>> os.environ["TORCHELASTIC_ERROR_FILE"] = path = os.path.join(tempfile.mkdtemp(), "error.json")
        >>> tell_launcher("error: there is no folder charts")
        >>> json.loads(open(path).read())["message"]["message"]
        'error: there is no folder charts'
        >>> del os.environ["TORCHELASTIC_ERROR_FILE"]
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):  # the message has been printed
            Path(path).write_text(json.dumps(content), encoding="utf-8")


def usage(name: str, program: str | None = None) -> str:
    """Return the usage line of a script for `--help`: as it was started, from a file or as a module of the package.

    Args:
        name: Name of the module in `chartqa_ft.scripts`.
        program: The command that runs the script instead, such as `chartqa-ft evaluate`.

    Example:
        >>> usage("evaluate_checkpoint", "chartqa-ft evaluate")
        'chartqa-ft evaluate [config.yaml] [--ARGUMENT VALUE ...]'
        >>> usage("finetune_unichart")
        'accelerate launch -q -m chartqa_ft.scripts.finetune_unichart [config.yaml] [--ARGUMENT VALUE ...]'
    """
    started = sys.argv[0].replace("\\", "/")
    if program is None:
        is_example = started.endswith(f"examples/{name}.py")
        script = f"examples/{name}.py" if is_example else f"-m {__package__}.{name}"
        program = f"accelerate launch -q {script}"
    return f"{program} [config.yaml] [--ARGUMENT VALUE ...]"
