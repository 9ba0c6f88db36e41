"""UniChart's published checkpoints load with the prompt and the task that they were fine-tuned on, by their names."""

from __future__ import annotations

import pytest

from ..hub_client import Client
from ..hub_server import HubServer, environment
from ..support.common import ROOT

CHECKPOINT = ROOT / "tests" / "golden" / "modern" / "checkpoint"
PROMPTS = {
    "qa": "<chartqa> How much is red? <s_answer>",
    "open_qa": "<opencqa> How much is red? <s_answer>",
    "table": "<extract_data_table> <s_answer>",
    "summary": "<summarize_chart> <s_answer>",
}
PUBLISHED = {
    "ahmed-masry/unichart-opencqa-960": "open_qa",
    "ahmed-masry/unichart-chart2text-statista-960": "summary",
    "ahmed-masry/unichart-chart2text-pew-960": "summary",
    "ahmed-masry/unichart-base-960": "qa",
    "someone/unichart-opencqa-960": "qa",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    with HubServer(folder / "hub") as hub:
        for name in PUBLISHED:
            hub.upload(name, CHECKPOINT)
        with Client(environment(hub, folder / "home"), folder / "client.log") as client:
            yield client


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_has_its_task_and_keeps_it(client, name, tmp_path):
    found = client.call("tests.drivers.task_flows.load", name, str(tmp_path))
    task = PUBLISHED[name]
    assert found["task"] == task
    assert found["prompt"] == found["again"] == found["saved"] == PROMPTS[task]
    assert found["named"] == PROMPTS
    assert found.get("answers") == (2 if task == "summary" else None)
