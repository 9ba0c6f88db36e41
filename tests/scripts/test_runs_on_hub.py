"""Runs that are named by a model on the Hub, with the real client against a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chartqa_ft.metrics.predictions import write_predictions

from ..hub_client import Client, ClientError
from ..hub_server import HubServer, environment
from .test_compare import rows

FLOWS = "tests.drivers.compare_flows."


class World:
    """A hub with the runs of alice, a process of hers, and a folder with a run of her own."""

    def __init__(self, folder: Path):
        self.folder, self.hub = folder, HubServer(folder / "hub")
        self.token = self.hub.add_user("alice")
        self.here = folder / "here"
        write_predictions(rows([1, 0, 0]), self.here / "mine" / "predictions.jsonl")
        self.client = self.process("home")

    def process(self, home: str, **settings) -> Client:
        return Client(
            environment(self.hub, self.folder / home, token=self.token, **settings), self.folder / f"{home}.log"
        )

    def run(self, *line: str, client: Client | None = None) -> dict:
        return (client or self.client).call(FLOWS + "run", list(line), self.here)


def content(verdicts, folder) -> bytes:
    return write_predictions(rows(verdicts), folder / "content.jsonl").read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("runs"))
    metrics = json.dumps({"arguments": {"generation_num_beams": 4}}).encode()
    with world.hub as hub, world.client:
        hub.upload("alice/model", {"config.json": b"{}"})
        first = {"predictions.jsonl": content([0, 0, 0], world.folder), "metrics.json": metrics}
        hub.upload("alice/model", first, revision="v1")
        hub.upload("alice/model", {"predictions.jsonl": content([1, 1, 1], world.folder), "metrics.json": metrics})
        for name in ("alice/other", "alice/forged"):
            hub.upload(name, {**first, "model.safetensors": b"0", "code.py": b"raise SystemExit"})
        hub.upload("alice/bare", {"config.json": json.dumps({"model_type": "idefics3"}).encode()})
        hub.upload("alice/empty", {"README.md": b"#"})
        hub.create_repo("alice/secret", private=True)
        hub.upload("alice/secret", {"chartqa_config.json": b"{}"})
        yield world
    written = [path for path in world.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if world.token.encode() in path.read_bytes()]


def test_models_are_compared_by_name_and_revision(world):
    said = world.run("compare", "mine", "alice/model", "--changed", "0")
    assert said["code"] == 0, said
    assert "difference: model minus mine" in said["out"]
    lines = [" ".join(line.split()) for line in said["out"].splitlines()]
    assert any(line.startswith("all 33.33 100.00 +66.67") for line in lines)
    said = world.run("compare", "alice/model@v1", "alice/model", "--fail_below", "100")
    assert said["code"] == 0, said
    said = world.run("compare", "alice/model", "alice/model@v1", "--fail_below", "-99.9")
    assert (said["code"], said["err"]) == (1, "the difference of -100.00 points is below -99.9\n")


def test_only_the_answers_and_scores_are_downloaded(world):
    before = len(world.hub.requests)
    assert world.run("compare", "alice/other", "mine")["code"] == 0
    asked = {request.path.rpartition("/")[2] for request in world.hub.requests[before:] if "/resolve/" in request.path}
    assert asked == {"predictions.jsonl", "metrics.json"}


def test_report_and_export_take_models_and_write_here(world):
    assert world.run("export", "alice/model", "--format", "lmms-eval", "--output", "a.jsonl")["code"] == 0
    assert (world.here / "a.jsonl").read_text().count("\n") == 3
    said = world.run("report", "alice/model", "--other", "mine")
    assert said["out"].splitlines()[0] == "report: report.html", said
    assert "model" in (world.here / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alice/nothing", "there is no model alice/nothing"),
        ("alice/bare", "alice/bare was not loaded: it has no predictions.jsonl"),
        ("alice/model@v9", "'v9'"),
        ("alice/model@../../etc", "revision must be a branch, tag or commit"),
        ("alice/model@", "revision must be a branch, tag or commit"),
        ("mine/predictions", "there is no mine/predictions: pass a predictions.jsonl"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(world, name, message):
    said = world.run("compare", name, "mine")
    assert said["code"] == 2
    assert message in said["err"]
    assert said["err"].count("\n") == 1
    assert world.token not in said["err"]


def test_answers_with_another_content_than_announced_are_refused(world):
    world.hub.forge("/alice/forged/resolve/*/predictions.jsonl", method="GET", change=lambda body: body[::-1])
    try:
        said = world.run("compare", "alice/forged", "mine")
    finally:
        world.hub.mend()
    assert said["code"] == 2
    assert "is not the one that the Hub announces" in said["err"]


def test_a_failure_that_passes_is_tried_again(world):
    world.hub.fail("/api/models/alice/model*", status=503)
    before = len(world.hub.requests)
    assert world.run("compare", "alice/model", "mine")["code"] == 0
    assert [request.status for request in world.hub.requests[before:]].count(503) == 1


def test_without_the_hub_the_cache_is_used(world):
    assert world.run("compare", "alice/model", "mine")["code"] == 0
    with world.process("home", offline=True) as client:
        assert world.run("compare", "alice/model", "mine", client=client)["code"] == 0
        said = world.run("compare", "alice/bare", "mine", client=client)
    assert said["code"] == 2
    assert "HF_HUB_OFFLINE=1" in said["err"]


def test_files_that_may_be_missing_are_left_out(world):
    assert world.client.call(FLOWS + "fetch", "alice/bare", ["config.json", "metrics.json"]) == {
        "config.json": '{"model_type": "idefics3"}'
    }
    names = ["chartqa_config.json", "config.json"]
    assert list(world.client.call(FLOWS + "fetch", "alice/bare", names, needs_first=False)) == ["config.json"]
    with pytest.raises(ClientError, match=r"it has no chartqa_config\.json and no config\.json"):
        world.client.call(FLOWS + "fetch", "alice/empty", names, needs_first=False)
    assert list(world.client.call(FLOWS + "fetch", "alice/secret", names, needs_first=False)) == names[:1]
