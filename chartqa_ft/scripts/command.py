"""The command that started a script, as a model card shows it, to be run again on another machine."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence

from ..hub.public import public_arguments, public_path

# Environment variables that `accelerate launch` sets for its processes, and the options they stand for.
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
"""Values that are the default of every option."""
_MODULE = re.compile(rf"(?:^|/){__package__.replace('.', '/')}/(\w+)\.py$")
"""The file of a script that was started as a module of the package (`python -m`)."""
_SIMPLE = re.compile(r"[\w.,-]+", re.ASCII)
"""Values that are a name or a number, and thus no token or path."""


def command_line(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the command in one line, launcher included, without tokens or folders of this machine.

    Args:
        arguments: The script and its arguments. `None`: those of this process.
        environment: Environment variables as the launcher (`accelerate launch`, `torchrun` or none) set them. `None`:
            those of this process.

    Returns:
        The command, or `None` where no script was started: in a notebook, or by `python -c`.

    Example:
        >>> command_line(["train.py", "--output_dir", "/home/me/out", "--hub_token", "hf_secret"], {})
        'python train.py --output_dir out'
        >>> command_line(["train.py"], {"WORLD_SIZE": "4", "RANK": "0"})
        'torchrun --nproc_per_node 4 train.py'
        >>> command_line(["/env/site-packages/chartqa_ft/scripts/finetune_unichart.py", "--seed", "1"], {})
        'python -m chartqa_ft.scripts.finetune_unichart --seed 1'
    """
    arguments = sys.argv if arguments is None else arguments
    if not arguments or arguments[0] in ("", "-c", "-m"):
        return None
    started = _MODULE.search(arguments[0].replace("\\", "/"))
    script = ["-m", f"{__package__}.{started[1]}"] if started else public_arguments(arguments[:1])
    known = launcher(os.environ if environment is None else environment)
    return shlex.join([*known, *script, *public_arguments(arguments[1:])])


def launcher(environment: Mapping[str, str]) -> list[str]:
    """Return the launcher with its options.

    With several machines, the rank of each machine and the address of the first one are placeholders to fill in.

    Args:
        environment: Environment variables as the launcher set them.

    Example:
        >>> launcher({"ACCELERATE_MIXED_PRECISION": "bf16"})
        ['accelerate', 'launch', '--num_processes', '1', '--mixed_precision', 'bf16']
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
    """Return the options that say how accelerate distributes the work."""
    if _is_on(environment, "ACCELERATE_USE_FSDP"):
        return ["--use_fsdp", *_options(environment, _FSDP)]
    # A Trainer with the argument `deepspeed` sets ACCELERATE_USE_DEEPSPEED too; only the launcher sets the fields.
    if "ACCELERATE_CONFIG_DS_FIELDS" in environment:
        return ["--use_deepspeed", *_options(environment, _DEEPSPEED)]
    if "TORCHELASTIC_RUN_ID" in environment:
        return ["--multi_gpu"]
    return ["--cpu"] if _is_on(environment, "ACCELERATE_USE_CPU") else []


def _options(environment: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """Return the options whose variables have a value other than the default."""
    options: list[str] = []
    for variable, option in names.items():
        # accelerate writes the whole number 1e8 as a float, which some versions of its own parser refuse.
        value = re.sub(r"^(\d+)\.0$", r"\1", public_path(environment.get(variable, "")))
        if value.lower() not in _OFF and _SIMPLE.fullmatch(value):
            options += [f"--{option}", value]
    return options


def _is_on(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").lower() in ("true", "1")
