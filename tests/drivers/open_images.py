"""Check and open every file of a folder, each in a process with little memory; prints what came of them as JSON.

python -m tests.drivers.open_images folder megabytes
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy  # noqa: F401  (its memory is not that of an image)
from PIL import Image

from chartqa_ft.images.check import check_image
from chartqa_ft.images.opening import open_image
from chartqa_ft.images.rgb import to_rgb


def outcome(action) -> str:
    try:
        return repr(action())
    except MemoryError:
        return "MemoryError"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def opened(path: Path) -> tuple[int, int]:
    return to_rgb(open_image(path)).size


def limited(megabytes: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 10**6,) * 2)


def main(folder: str, megabytes: str) -> None:
    Image.init()
    found = {}
    for path in sorted(Path(folder).iterdir()):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            limited(int(megabytes))
            start = time.perf_counter()
            said = [outcome(lambda path=path: check_image(path)), outcome(lambda path=path: opened(path))]
            os.write(writer, json.dumps([*said, time.perf_counter() - start]).encode()[:60_000])
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as file:
            content = file.read()
        os.waitpid(child, 0)
        found[path.name] = json.loads(content) if content else ["killed", "killed", 0]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
