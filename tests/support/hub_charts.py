"""Datasets of charts as they are stored on the Hub, and calls to the processes that load and push them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from chartqa_ft.hub.public import find_token

from ..drivers.data_flows import rows
from ..hub_client import ClientError

LOAD, PUSH = "tests.drivers.data_flows.load", "tests.drivers.data_flows.push"
SEED = {"repo_type": "dataset"}
PLACE = "data/{}-00000-of-00001.parquet"


def expected(dataset: Dataset) -> list[list[str]]:
    return rows(dataset)


def without_ids(rows: list[list[str]]) -> list[list[str]]:
    return [row[:-1] for row in rows]


def raised(client, *arguments, **named) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.call(*arguments, **named)
    assert not find_token(caught.value.trace)
    return caught.value


def bytes_of(dataset: Dataset) -> list[bytes]:
    return [row["bytes"] for row in dataset.cast_column("image", Image(decode=False))["image"]]


def as_m4(dataset: Dataset) -> bytes:
    """As `HuggingFaceM4/ChartQA` stores it."""
    features = Features(
        {
            "image": Image(),
            "query": Value("string"),
            "label": List(Value("string")),
            "human_or_machine": ClassLabel(names=["human", "machine"]),
        }
    )
    columns = {
        "image": [{"bytes": image, "path": None} for image in bytes_of(dataset)],
        "query": dataset["question"],
        "label": [[answer] for answer in dataset["answer"]],
        "human_or_machine": [int(source != "human") for source in dataset["source"]],
    }
    file = io.BytesIO()
    Dataset.from_dict(columns, features=features).to_parquet(file)
    return file.getvalue()


def as_masry(dataset: Dataset) -> bytes:
    """As `ahmed-masry/ChartQA` stores it: raw bytes."""
    table = pa.table(
        {
            "imgname": [f"{chart}.png" for chart in dataset["chart_id"]],
            "query": list(dataset["question"]),
            "label": list(dataset["answer"]),
            "type": ["human" if source == "human" else "machine" for source in dataset["source"]],
            "image": pa.array(bytes_of(dataset), pa.binary()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()
