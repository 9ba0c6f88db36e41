"""The configurations of `accelerate launch` hold nothing that it does not know, and their lines name what exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser

from ..support.common import ROOT

FOLDER = ROOT / "examples" / "accelerate_configs"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_all_are_there():
    assert [path.stem for path in FILES] == ["ddp", "fsdp2", "multi_node", "zero2", "zero3"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_knows_every_key(path: Path):
    config = load_config_from_file(str(path))
    written = yaml.safe_load(path.read_text())
    assert written.keys() <= {field.name for field in fields(ClusterConfig)}
    for name, value in written.items():
        assert getattr(config, name) == value
    options = vars(launch_command_parser().parse_args(["script.py"]))
    assert {*config.deepspeed_config, *config.fsdp_config} <= options.keys()
    assert config.num_processes % config.num_machines == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_lines_that_use_it(path: Path):
    comments = "".join(line[1:].strip() + "\n" for line in path.read_text().splitlines() if line.startswith("#"))
    lines = [line.split() for line in comments.replace("\\\n", " ").splitlines() if "accelerate launch" in line]
    assert lines
    for line in lines:
        arguments = launch_command_parser().parse_args(line[line.index("launch") + 1 :])
        assert Path(arguments.config_file) == path.relative_to(ROOT)
        assert (ROOT / arguments.training_script).is_file()
        assert "--output_dir" in arguments.training_script_args
    assert re.search(r"^(Not t|T)ested", comments, flags=re.MULTILINE)
