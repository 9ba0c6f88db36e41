"""`push_dataset` says what it makes public before anything leaves, and refuses records with a secret."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from chartqa_ft.data.publishing import announcement, chartqa_charts
from chartqa_ft.data.push_dataset import push_dataset
from chartqa_ft.hub.errors import HubError

from ..support.common import drawn_charts


class StoppedError(Exception):
    """The first byte would leave now."""


@pytest.fixture
def hub(monkeypatch, caplog):
    """A hub of one dataset, which is public, private or missing; the push of the records stops."""
    caplog.set_level(logging.INFO, logger="chartqa_ft")
    state = SimpleNamespace(private=None)

    def dataset_info(*_, **__):
        if state.private is None:
            missing = RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # its class depends on the HTTP client
            missing.response = SimpleNamespace(status_code=404, headers={})
            raise missing
        return SimpleNamespace(private=state.private)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr(sys.modules[push_dataset.__module__], "_validate", lambda *_: None)
    for kind in (Dataset, DatasetDict):
        monkeypatch.setattr(kind, "push_to_hub", Mock(side_effect=StoppedError))
    return state


def said(caplog, charts, **settings) -> tuple[str, str]:
    """The level and the text of the only line before the first byte."""
    with pytest.raises(StoppedError):
        push_dataset(charts, "alice/charts", **settings)
    (record,) = [one for one in caplog.records if one.name == "chartqa_ft.data.push_dataset"]
    caplog.clear()
    return record.levelname, record.getMessage()


def test_one_line_says_who_can_read_how_many_charts(hub, caplog):
    charts = drawn_charts().select(range(5))
    number = len(set(charts["chart_id"]))
    level, line = said(caplog, charts)
    assert line.startswith(
        f"pushing {number} charts with 5 questions to alice/charts, which is new and everybody can read"
    )
    assert (level, "private=True" in line, "\n" in line, "ChartQA" in line) == ("WARNING", True, False, False)
    level, line = said(caplog, DatasetDict({"train": charts, "test": charts}), private=False)
    assert f"{2 * number} charts with 10 questions to alice/charts, which everybody can read (private=True" in line
    assert level == "WARNING"
    hub.private = False
    assert "which everybody can read (private=True" in said(caplog, charts)[1]
    with pytest.raises(HubError, match="a public dataset of this name already exists"):
        push_dataset(charts, "alice/charts", private=True)
    hub.private = True
    for private in (None, True, False):
        assert said(caplog, charts, private=private) == (
            "INFO",
            f"pushing {number} charts with 5 questions to alice/charts, which is private",
        )
    hub.private = None
    assert said(caplog, charts, private=True)[0] == "INFO"


def named(charts: Dataset, names: list[str]) -> Dataset:
    return charts.select(range(len(names))).remove_columns(["chart_id"]).add_column("chart_id", names)


def test_charts_with_the_file_names_of_chartqa_are_named_with_their_license(hub, caplog):
    charts = named(drawn_charts(), ["two_col_104512.png", "multi_col_80123.png", "OECD_AIR_POLLUTION_AUS_000012.png"])
    level, line = said(caplog, charts)
    assert "3 charts have file names of ChartQA, whose license is gpl-3.0" in line
    assert (level, "\n" in line) == ("WARNING", False)
    hub.private = True
    assert "gpl" not in said(caplog, charts)[1]  # nobody else can read them


def test_which_names_are_those_of_chartqa():
    names = [
        "png/two_col_1.png",
        "two_col_1",
        "multi_col_20.png#ab12",
        "OECD_A-B_C_D_000001.png",
        "test/png/OECD_X_123456",
    ]
    assert chartqa_charts(names) == 4  # two of them are one chart
    assert chartqa_charts(["two_col.png", "12345.png", "OECD report", "col_1", "two_column_1.png"]) == 0
    counts = {"train": {"charts": 1, "human": 1}}
    for source in ("ChartQA", "/data/ChartQA Dataset/", "HuggingFaceM4/ChartQA", "ahmed-masry/chartqa"):
        line = announcement("a/b", counts, is_public=True, source=source, of_chartqa=0)
        assert "by its name this is ChartQA, whose license is gpl-3.0" in line
    for source in ("my-charts", "a/not-chartqa-at-all", "vis-nlp/ChartQAPro"):
        assert "gpl" not in announcement("a/b", counts, is_public=True, source=source, of_chartqa=0)


def picture(**texts: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    for key, text in texts.items():
        info.add_text(key, text)
    Pillow.new("RGB", (30, 20), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "What is ghp_" + "a" * 36},
        {"answer": "hf_" + "a" * 34},
        {"chart_id": "AKIAIOSFODNN7EXAMPLE"},
        {"question": "of-the-environment-1?"},
        {"image": picture(comment="log in with hf_" + "a" * 34)},
        {"image": picture(comment="of-the-environment-1")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_records_with_a_secret_are_refused(hub, monkeypatch, changes):
    monkeypatch.setenv("COMET_API_KEY", "of-the-environment-1")
    rows = [
        {"question": "How many?", "answer": "3", "source": "human", "chart_id": f"c{number}", "image": picture()}
        for number in range(3)
    ]
    rows[2] |= changes
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    columns["image"] = [{"bytes": image, "path": None} for image in columns["image"]]
    features = Features({key: Image() if key == "image" else Value("string") for key in columns})
    charts = Dataset.from_dict(columns, features=features)
    with pytest.raises(ValueError, match=r"train\[2\].*a secret"):
        push_dataset(charts, "alice/charts")
    with pytest.raises(StoppedError):
        push_dataset(charts.select(range(2)), "alice/charts")
