"""Processes that are forked with all imports made are as fresh Pythons in all else, and fail as they do."""

from __future__ import annotations

import json
import signal

import pytest

from ..support.common import environment
from ..support.fork_server import of_others
from ..support.prepared import Ranks, run_prepared, server

TELL = """
import atexit, json, os, sys, threading
import torch
atexit.register(print, "at the end")
made = torch.cuda.is_initialized(), threading.active_count()
print(json.dumps([sys.argv, __name__, os.getcwd(), os.environ.get("OWN"), os.getsid(0) == os.getpid(), made]))
"""


def test_a_script_has_its_own_arguments_folder_environment_and_end(tmp_path):
    script = tmp_path / "tell.py"
    script.write_text(TELL)
    for arguments in ([script, "a b"], ["-c", TELL, "a b"]):
        with open(tmp_path / "out", "w") as out:
            variables = {**environment(), "OWN": "mine"}
            code = server().start(arguments, environment=variables, cwd=tmp_path, stdout=out).wait(60)
        told, end = (tmp_path / "out").read_text().splitlines()
        assert (code, end) == (0, "at the end")
        name = str(script) if len(arguments) == 2 else "-c"
        assert json.loads(told) == [[name, "a b"], "__main__", str(tmp_path), "mine", True, [False, 1]]


def test_ranks_know_each_other():
    code = "import torch.distributed as d; d.init_process_group('gloo'); o = [None] * 3; "
    code += "d.all_gather_object(o, d.get_rank()); assert o == [0, 1, 2]; d.destroy_process_group()"
    run_prepared(["-c", code], 3)


def test_a_rank_that_fails_is_told_with_its_output_and_ends_the_others():
    code = "import os, time\nif os.environ['RANK'] == '1': print(1 / 0)\ntime.sleep(600)"
    with pytest.raises(AssertionError, match="rank 1 ended with 1") as caught:
        run_prepared(["-c", code], 2, timeout=60)
    assert "ZeroDivisionError: division by zero" in str(caught.value)


def test_a_process_that_hangs_is_ended():
    with pytest.raises(AssertionError, match=r"did not end within 0\.2 seconds"):
        run_prepared(["-c", "import time; time.sleep(600)"], timeout=0.2)


@pytest.mark.parametrize(
    ("code", "returned"),
    [("raise SystemExit(3)", 3), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM), ("", 0)],
)
def test_return_codes_are_those_of_a_python(tmp_path, code, returned):
    with open(tmp_path / "out", "w") as out:
        ranks = Ranks(["-c", code], stdout=out, stderr=out)
        assert ranks.started[0].wait(60) == returned
        assert ranks.started[0].poll() == returned


def test_the_server_for_processes_with_settings_of_their_own_has_imported_nothing_that_reads_them():
    readers = ("huggingface_hub", "transformers", "datasets", "chartqa_ft")
    code = f"import sys; print([name for name in {readers} if name in sys.modules], 'torch' in sys.modules)"
    assert run_prepared(["-c", code], by=of_others()).stdout == "[] True\n"
