"""`python -m tests.bad_inputs [group or part of a name] [--write-known-wrong]`: run the corpus, print what is wrong.

`--write-known-wrong` runs all of it and writes the cases that are wrong into `known_wrong.txt`.
"""

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
    from .case import HANDLED, REFUSED, judge
    from .ratchet import known_wrong, summary, write_known_wrong

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    writes = "--write-known-wrong" in sys.argv[1:]
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    if writes and wanted:
        sys.exit("--write-known-wrong takes no names: the file lists all that is wrong")
    known, wrong = known_wrong(), []
    counts: Counter[str] = Counter()
    groups: dict[str, Counter[str]] = {}
    for (group, name), case in corpus().items():
        if wanted and not any(word in f"{group}/{name}" for word in wanted):
            continue
        start = time.process_time()
        outcome = judge(case)
        seconds = time.process_time() - start
        counts[outcome.kind] += 1
        groups.setdefault(group, Counter())[outcome.kind] += 1
        if outcome.is_wrong:
            wrong.append((group, name))
        if outcome.is_wrong or os.environ.get("BAD_INPUTS_ALL"):
            print(f"| {group} | {name} | {outcome.kind} | {outcome.note} | {seconds:.2f} s |", flush=True)
    for group, kinds in groups.items():
        print(f"{group}: {kinds[HANDLED]} handled, {kinds[REFUSED]} clear of {sum(kinds.values())}")
    print(summary(counts))
    if writes:
        write_known_wrong(wrong)
        return 0
    return int(not known.issuperset(wrong))


if __name__ == "__main__":
    sys.exit(main())
