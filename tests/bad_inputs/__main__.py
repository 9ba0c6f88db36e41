"""`python -m tests.bad_inputs [group or part of a name]`: run the corpus and print what is wrong."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter

_HOME = tempfile.TemporaryDirectory(prefix="bad_inputs_", ignore_cleanup_errors=True)
os.environ["HF_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def main() -> int:
    from transformers.utils import logging

    from . import corpus
    from .case import HANDLED, REFUSED, SILENT, UNCLEAR, judge

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    wanted = sys.argv[1:]
    counts: Counter[str] = Counter()
    groups: dict[str, Counter[str]] = {}
    for (group, name), case in corpus().items():
        if wanted and not any(word in f"{group}/{name}" for word in wanted):
            continue
        start = time.perf_counter()
        outcome = judge(case)
        seconds = time.perf_counter() - start
        counts[outcome.kind] += 1
        groups.setdefault(group, Counter())[outcome.kind] += 1
        if outcome.is_wrong or os.environ.get("BAD_INPUTS_ALL"):
            print(f"| {group} | {name} | {outcome.kind} | {outcome.note} | {seconds:.2f} s |", flush=True)
    for group, kinds in groups.items():
        print(f"{group}: {kinds[HANDLED]} handled, {kinds[REFUSED]} clear of {sum(kinds.values())}")
    total, wrong = sum(counts.values()), counts[SILENT] + counts[UNCLEAR]
    right = f"{total - wrong} of {total} handled or clear"
    print(f"{right}, {counts[SILENT]} silently wrong, {counts[UNCLEAR]} unclear")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
