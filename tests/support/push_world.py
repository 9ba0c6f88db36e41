"""A hub with the models that users start from, what a trainer pushes there, and the whole way there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chartqa_ft.hub import read_card
from chartqa_ft.hub.public import find_token

from ..hub_client import Client
from ..project.test_hub_server import World
from . import families

FLOWS = "tests.drivers.push_flows."
GOLDEN = Path(__file__).parents[1] / "golden"
BASES = {
    "unichart": "ahmed-masry/unichart-base-960",
    "donut": "naver-clova-ix/donut-base",
    "llava": "llava-hf/llava-1.5-7b-hf",
}
LICENCES = {"unichart": "mit", "donut": "mit", "llava": "llama2"}
LEGACY = {"unichart": GOLDEN / "modern", "donut": GOLDEN / "ancient"}
"""The sets of golden values whose checkpoint, in the layout of transformers 4.28.1, is served under these names."""
KINDS = ("full", "lora", "merged")
LEGACY_RATES = {"full": 0.002, "lora": 0.02, "merged": 0.02}
RATES = {"unichart": LEGACY_RATES, "donut": LEGACY_RATES, "llava": dict.fromkeys(KINDS, 0.002)}
"""At which two steps leave different answers to different charts."""
RESULTS = {"README.md", "assets/training_curve.png", "metrics.json"}
SETTINGS = {"chartqa_config.json", "training_args.json"}
PROCESSOR = {"processor_config.json", "tokenizer.json", "tokenizer_config.json"}
FULL = {"config.json", "generation_config.json", "model.safetensors"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}


def expected(family: str, kind: str) -> set[str]:
    """The files of a pushed model."""
    chat = {"chat_template.jinja"} if family == "llava" else set()
    return RESULTS | SETTINGS | PROCESSOR | chat | {"generation_config.json"} | (ADAPTER if kind == "lora" else FULL)


@contextmanager
def push_world(folder: Path, *, xet: bool) -> Iterator[World]:
    """A world whose hub serves the base models; at its end no token and no pickle of arguments may lie in `folder`,
    where the runs go too."""
    model, processor = families.build("llava")
    model.save_pretrained(folder / "bases" / "llava")
    processor.save_pretrained(folder / "bases" / "llava")
    sources = {"llava": folder / "bases" / "llava", **{family: top / "checkpoint" for family, top in LEGACY.items()}}
    with World(folder, xet=xet) as world:
        for family, name in BASES.items():
            world.hub.upload(name, sources[family])
            world.hub.upload(name, {"README.md": f"---\nlicense: {LICENCES[family]}\n---\n# A base\n".encode()})
        world.hub.add_organisation("lab", "alice")
        yield world
        assert world.token not in repr(world.hub.requests)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert world.client.log in files
        assert not [path for path in files if world.token.encode() in path.read_bytes()]
        assert not [path for path in files if path.name == "training_args.bin"]


def run_folder(world: World, test: str) -> Path:
    """Where a test's run goes: searched for tokens at the end."""
    return world.folder / "runs" / "".join(sign if sign.isalnum() else "-" for sign in test).strip("-")


def empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


# ---------------------------------------------------------------- what was pushed


def pushed(world: World, name: str, **settings: Any) -> dict[str, bytes]:
    """The files of a model, none of which is a pickle or holds a token."""
    files = world.hub.files(name, **settings)
    files.pop(".gitattributes", None)
    assert not [path for path in files if path.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not [path for path, content in files.items() if find_token(content.decode("latin-1"), world.token)]
    return files


def card(files: dict[str, bytes]) -> str:
    return files["README.md"].decode()


def metadata(files: dict[str, bytes]) -> dict[str, Any]:
    return yaml.safe_load(card(files).split("---\n")[1])


def scores(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a card tells of them."""
    return {key.removeprefix("eval_"): value for key, value in metrics.items() if "relaxed_accuracy" in key}


def assert_card_tells(files: dict[str, bytes], metrics: dict[str, Any]) -> None:
    told = read_card(card(files))
    assert {"relaxed_accuracy", "relaxed_accuracy_ci_low", "relaxed_accuracy_human", "n", "n_human"} <= set(told)
    for key, value in told.items():
        assert value == metrics[f"eval_{key}"], key


# ---------------------------------------------------------------- there and back


class Journey(NamedTuple):
    """What the training process and then the fresh one told of a model, and the files between them."""

    sent: dict[str, Any]
    files: dict[str, bytes]
    got: dict[str, Any]


def there_and_back(
    world: World, other: Client, folder: Path, family: str, kind: str, *, golden: Path | None = None, **changes: Any
) -> Journey:
    """Train, push, and pull in `other`, a process of `world` with the home "fresh", whose cache is emptied before.

    Asserts that answers, metrics, card and `metrics.json` are the same on both sides.

    Args:
        golden: a folder of golden values, of which both processes tell their `old_numbers`.
        changes: training arguments, and `loading`, settings of `load_checkpoint`, of the training process.
    """
    name, predictions = f"alice/{folder.name}", kind == "lora"
    sent = world.call(
        FLOWS + "train_and_push",
        folder,
        BASES[family],
        lora=kind != "full",
        pushing={"merge": kind == "merged", "predictions": predictions},
        golden=golden,
        hub_model_id=name,
        hub_token=world.token,
        learning_rate=RATES[family][kind],
        **changes,
    )
    assert 0 < sent["metrics"]["eval_relaxed_accuracy"] < 1, sent["answers"]
    files = pushed(world, name)
    assert set(files) == expected(family, kind) | ({"predictions.jsonl"} if predictions else set())
    assert len(world.hub.commits(name)) == 2
    empty(world.folder / "fresh")
    beams = changes.get("generation_num_beams", 1)
    got = other.call(FLOWS + "pull", name, sent["labels"], folder / "pulled", num_beams=beams, golden=golden)
    assert got["answers"] == sent["answers"], (got["answers"], sent["answers"])
    assert len(set(got["answers"])) > 1
    losses = got["metrics"].pop("eval_loss"), sent["metrics"].pop("eval_loss")
    assert losses[0] == (pytest.approx(losses[1], rel=1e-5) if kind == "merged" else losses[1])
    assert got["metrics"] == sent["metrics"], (got["metrics"], sent["metrics"])
    assert_card_tells(files, sent["metrics"])
    report = json.loads(files["metrics.json"])
    assert report["step"] == 2
    assert scores(report) == scores(sent["metrics"])
    told = metadata(files)
    assert (told["license"], told["base_model"]) == (LICENCES[family], BASES[family])
    if predictions:
        rows = [json.loads(line) for line in files["predictions.jsonl"].splitlines()]
        assert [row["prediction"] for row in rows] == sent["answers"]
    return Journey(sent, files, got)
