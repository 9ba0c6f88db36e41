"""The command that a script was started with, as a model's card tells it: to be run again, elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence

from ..hub.public import public_arguments, public_path

# Of the environment that `accelerate launch` gives its processes: variable -> option.
_FSDP = {
    f"FSDP_{name.upper()}": f"fsdp_{name}"
    for name in (
        "version",
        "sharding_strategy",
        "reshard_after_forward",
        "offload_params",
        "min_num_params",
        "auto_wrap_policy",
        "backward_prefetch",
        "state_dict_type",
        "forward_prefetch",
        "use_orig_params",
        "cpu_ram_efficient_loading",
        "sync_module_states",
        "activation_checkpointing",
        "activation_checkpointing_offload",
    )
} | {"FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap"}
_DEEPSPEED = {
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
}
_COMPUTING = {"ACCELERATE_MIXED_PRECISION": "mixed_precision", "ACCELERATE_DYNAMO_BACKEND": "dynamo_backend"}
_OFF = ("", "none", "no")
"""Values that need no option."""
_SIMPLE = re.compile(r"[\w.,-]+", re.ASCII)
"""Values that can be nothing but a name or a number."""


def command_line(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> str | None:
    """The command in one line, launcher and number of processes included, without tokens and this machine's folders.

    Args:
        arguments: script and arguments; `None`: those of this process.
        environment: what the launcher (`accelerate launch`, `torchrun`, or none) left; `None`: that of this process.

    Returns:
        `None` where no script was started: in a notebook, or by `python -c`.
    """
    arguments = sys.argv if arguments is None else arguments
    if not arguments or arguments[0] in ("", "-c", "-m"):
        return None
    return shlex.join([*launcher(os.environ if environment is None else environment), *public_arguments(arguments)])


def launcher(environment: Mapping[str, str]) -> list[str]:
    """What stood before the script: `["accelerate", "launch", "--multi_gpu", "--num_processes", "4"]`.

    Of several machines, the rank of each and the address of the first are left to fill in.
    """
    processes, machines = (int(environment.get(name) or 1) for name in ("WORLD_SIZE", "GROUP_WORLD_SIZE"))
    if "ACCELERATE_MIXED_PRECISION" in environment:
        place = ["--num_machines", str(machines), "--machine_rank", "MACHINE_RANK", "--main_process_ip", "FIRST_IP"]
        how = ["--num_processes", str(processes), *(place if machines > 1 else [])]
        computing = {name: environment.get(name, "").lower() for name in _COMPUTING}
        return ["accelerate", "launch", *_kind(environment), *how, *_options(computing, _COMPUTING)]
    if "TORCHELASTIC_RUN_ID" in environment or processes > 1:
        local = int(environment.get("LOCAL_WORLD_SIZE") or processes // machines)
        place = ["--nnodes", str(machines), "--node_rank", "NODE_RANK", "--master_addr", "FIRST_IP"]
        return ["torchrun", *(place if machines > 1 else []), "--nproc_per_node", str(local)]
    return ["python"]


def _kind(environment: Mapping[str, str]) -> list[str]:
    """How accelerate's processes share the work."""
    if _is_on(environment, "ACCELERATE_USE_FSDP"):
        return ["--use_fsdp", *_options(environment, _FSDP)]
    # A Trainer with an argument `deepspeed` says ACCELERATE_USE_DEEPSPEED too; the fields come from the launcher.
    if "ACCELERATE_CONFIG_DS_FIELDS" in environment:
        return ["--use_deepspeed", *_options(environment, _DEEPSPEED)]
    if "TORCHELASTIC_RUN_ID" in environment:
        return ["--multi_gpu"]
    return ["--cpu"] if _is_on(environment, "ACCELERATE_USE_CPU") else []


def _options(environment: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    told = []
    for variable, option in names.items():
        value = public_path(environment.get(variable, ""))
        if value.lower() not in _OFF and _SIMPLE.fullmatch(value):
            told += [f"--{option}", value]
    return told


def _is_on(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").lower() in ("true", "1")
