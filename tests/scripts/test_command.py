"""The command on a model card starts the script in the same way, and shows nothing about who started it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from chartqa_ft.hub.public import public_arguments
from chartqa_ft.scripts.command import command_line, launcher

from ..support.common import launcher as accelerate_launch
from ..support.common import run

TOKEN = "hf_" + "abcdefghij" * 3
ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "10.0.0.7", "GROUP_RANK": "1"}


def test_no_token_and_no_folder_of_this_machine_is_shown():
    token = ["--hub_token", TOKEN, f"--hub_token={TOKEN}", "--hub_token", "unlike", "--hub_token=un=like"]
    here = Path.cwd()
    command = [f"{here}/examples/a.py", *token, "--output_dir=/home/me/out", "--model", "/models/base", "user/model"]
    shown = ["examples/a.py", "--output_dir=out", "--model", "base", "user/model"]
    assert public_arguments([*command, "--push_to_hub", "a=b/c", "--prompt=x = {question}"]) == [
        *shown,
        "--push_to_hub",
        "a=b/c",
        "--prompt=x = {question}",
    ]


@pytest.mark.parametrize("arguments", [[], [""], ["-c"], ["-m", "x"]])
def test_without_a_script_there_is_no_command(arguments):
    assert command_line(arguments, {}) is None


def several(processes: int, machines: int = 1) -> dict[str, str]:
    """Environment variables that torch sets for each process."""
    sizes = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes // machines, "GROUP_WORLD_SIZE": machines}
    return ELASTIC | {name: str(size) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "python a.py"),
        (several(1), "torchrun --nproc_per_node 1 a.py"),
        (several(4), "torchrun --nproc_per_node 4 a.py"),
        (several(8, 2), "torchrun --nnodes 2 --node_rank NODE_RANK --master_addr FIRST_IP --nproc_per_node 4 a.py"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "torchrun --nproc_per_node 2 a.py"),
    ],
)
def test_launchers_that_leave_only_numbers(environment, shown):
    assert command_line(["a.py"], environment) == shown


def left_by_accelerate(line: list[str]) -> dict[str, str]:
    """Environment variables that `accelerate launch <line>` sets for its processes."""
    defaults = ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no", "--num_machines", "1"]
    args = launch_command_parser().parse_args([*defaults, *line])
    args.use_cpu, args.deepspeed_fields_from_accelerate_config = args.cpu, ""
    args.num_cpu_threads_per_process, processes = 1, args.num_processes
    if args.use_deepspeed:
        return prepare_deepspeed_cmd_env(args)[1] | several(processes, args.num_machines)
    if args.use_fsdp or args.multi_gpu:
        return prepare_multi_gpu_env(args) | several(processes, args.num_machines)
    return prepare_simple_launcher_cmd_env(args)[1]


MACHINES = "--multi_gpu --num_processes 8 --num_machines 2 --machine_rank 1 --main_process_ip 10.0.0.7"
LINES = {
    "--num_processes 1": None,
    "--multi_gpu --num_processes 4": None,
    "--cpu --num_processes 1 --mixed_precision bf16": None,
    "--multi_gpu --num_processes 2 --mixed_precision fp16 --dynamo_backend inductor": None,
    MACHINES: MACHINES.replace("rank 1", "rank MACHINE_RANK").replace("10.0.0.7", "FIRST_IP"),
    "--use_deepspeed --zero_stage 2 --num_processes 2": None,
}


@pytest.fixture
def _fresh(monkeypatch):
    """Without the variables of this test run, which accelerate would pass on."""
    for name in list(os.environ):  # transformers sets some of them too, for good
        if name.startswith(("ACCELERATE_", "FSDP_")) or name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("line", LINES)
def test_what_accelerate_was_asked_for(line):
    environment = left_by_accelerate([*line.split(), "a.py"])
    assert shlex.join(launcher(environment)) == f"accelerate launch {LINES[line] or line}"


@pytest.mark.usefixtures("_fresh")
def test_fsdp_and_deepspeed_with_settings_of_their_own(tmp_path):
    """The command shown sets the same environment as the original one."""
    fsdp = "--use_fsdp --fsdp_version 2 --num_processes 4 --fsdp_transformer_layer_cls_to_wrap Block,Layer"
    more = "--fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_offload_params true --fsdp_state_dict_type X"
    settings = "--use_deepspeed --zero_stage 3 --zero3_init_flag true --offload_param_device cpu --num_processes 4"
    for line in (f"{fsdp} {more}", settings):
        wanted = left_by_accelerate([*line.split(), "a.py"])
        shown = launcher(wanted)
        assert shown[:2] == ["accelerate", "launch"]
        found = left_by_accelerate([*shown[2:], "a.py"])
        same = {name: value.removesuffix(".0") for name, value in wanted.items()}  # 1e8 as a float or as an integer
        assert {name: value for name, value in found.items() if same.get(name) != value.removesuffix(".0")} == {}
    config = tmp_path / "stage2.json"
    config.write_text("{}")
    line = ["--use_deepspeed", "--deepspeed_config_file", str(config), "--num_processes", "2"]
    shown = shlex.join(launcher(left_by_accelerate([*line, "a.py"])))
    assert "--deepspeed_config_file stage2.json" in shown
    assert str(tmp_path) not in shown


@pytest.mark.usefixtures("_fresh")
def test_nothing_else_of_the_environment_is_shown():
    environment = left_by_accelerate(["--multi_gpu", "--num_processes", "2", "a.py"]) | several(2)
    environment |= {"HF_TOKEN": TOKEN, "ACCELERATE_DEBUG_RDV_FILE": "/home/me/file", "FSDP_KEY": "secret"}
    environment |= {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "a b; rm", "FSDP_VERSION": "2"}
    shown = "accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2 a.py"
    assert command_line(["a.py"], environment) == shown


DUMP = """
import json, os
from chartqa_ft.scripts.command import command_line
if os.environ.get("RANK", "0") == "0":
    print(json.dumps(command_line()))
"""


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        (accelerate_launch(2), "accelerate launch --multi_gpu --num_processes 2"),
        ([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"], "torchrun"),
    ],
)
def test_started_for_real(tmp_path, start, shown):
    script = tmp_path / "script.py"
    script.write_text(DUMP)
    rest = ["--learning_rate=1e-4", "--prompt", "a {question}"]
    said = json.loads(run([*start, str(script), *rest]).stdout.splitlines()[-1])
    number = "" if "accelerate" in shown else " --nproc_per_node 2"
    assert said == f"{shown}{number} script.py --learning_rate=1e-4 --prompt 'a {{question}}'"
