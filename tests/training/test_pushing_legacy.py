"""Models trained from checkpoints of transformers 4.28.1 come back from the Hub with their old numbers; the client is
set up as it is by default, which stores with xet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..drivers.push_flows import GENERATION, digest_of
from ..project.test_hub_server import World
from ..support.push_world import BASES, KINDS, LEGACY, push_world, there_and_back

MARK = "chartqa_compat"
STORED, FETCHED = "/api/models/alice/{}/xet-write-token/*", "/api/models/alice/{}/xet-read-token/*"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    with push_world(tmp_path_factory.mktemp("legacy"), xet=True) as world:
        yield world
        assert not world.hub.matching("/storage/upload/*")


def of_4_28_1(golden: Path) -> dict[str, Any]:
    """The numbers that no training changes, as `old_numbers` tells them."""
    values = json.loads((golden / "golden.json").read_text(encoding="utf-8"))
    arrays = np.load(golden / "golden.npz")
    examples = values["examples"]
    config = json.loads((golden / "checkpoint" / "config.json").read_text(encoding="utf-8"))
    return {
        "pixels": [digest_of(arrays[f"pixel_values_{row}"]) for row in range(len(examples))],
        "padded": [digest_of(arrays[f"train_pixel_values_seed0_{row}"]) for row in range(len(examples))],
        "ids": [example["input_ids"][:-1] for example in examples],
        "decoded": [case["decoded"] for case in values["tokenizer_cases"]],
        "drop_path": [config["encoder"]["drop_path_rate"]] * sum(config["encoder"]["depths"]),
        "generation": {key: values["generation_config_in_force"].get(key) for key in GENERATION},
    }


def marks(files: dict[str, bytes]) -> dict[str, Any]:
    """What pushed files say of the version whose numbers they want."""
    found = {"settings": json.loads(files["chartqa_config.json"])["compat"]}
    found["processor"] = json.loads(files["processor_config.json"])["image_processor"].get(MARK)
    if "config.json" in files:
        found["config"] = json.loads(files["config.json"]).get(MARK)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", LEGACY)
def test_there_and_back_with_the_old_numbers(world, other, folder, family, kind):
    served = set(world.hub.files(BASES[family]))
    assert {"pytorch_model.bin", "preprocessor_config.json"} <= served
    assert not {"model.safetensors", "processor_config.json"} & served
    sent, files, got = there_and_back(
        world,
        other,
        folder,
        family,
        kind,
        golden=LEGACY[family],
        random_padding=True,
        generation_num_beams=4,
    )
    for key, value in of_4_28_1(LEGACY[family]).items():
        assert got["old"][key] == sent["old"][key] == value, key
    assert got["old"]["sequences"] == sent["old"]["sequences"]
    for key in ("beam_scores", "plain_beam_scores"):
        near = sent["old"][key] if kind != "merged" else pytest.approx(sent["old"][key], rel=1e-4)
        assert got["old"][key] == near
    # Divided by the prompt's length too, they are other scores than today's.
    for own, plain in zip(got["old"]["beam_scores"], got["old"]["plain_beam_scores"], strict=True):
        assert plain < 1.1 * own < 0
    said = marks(files)
    assert (said.pop("settings"), *said.values()) == (True, *["4.28.1"] * len(said))
    assert world.hub.matching(STORED.format(folder.name))
    assert world.hub.matching(FETCHED.format(folder.name))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_switched_off_stays_off(world, other, folder, kind):
    sent, files, got = there_and_back(
        world, other, folder, "unichart", kind, golden=LEGACY["unichart"], loading={"compat": False}
    )
    old = of_4_28_1(LEGACY["unichart"])
    for key in ("pixels", "ids", "drop_path"):
        assert got["old"][key] == sent["old"][key] != old[key], key
    assert got["old"]["sequences"] == sent["old"]["sequences"]
    assert got["old"]["beam_scores"] == got["old"]["plain_beam_scores"]
    said = marks(files)
    assert (said.pop("settings"), *said.values()) == (False, *[None] * len(said))


@pytest.mark.parametrize("kind", ["lora", "merged"])
def test_a_decoder_only_model_there_and_back(world, other, folder, kind):
    there_and_back(world, other, folder, "llava", kind)
    assert world.hub.matching(STORED.format(folder.name))
    assert world.hub.matching(FETCHED.format(folder.name))
