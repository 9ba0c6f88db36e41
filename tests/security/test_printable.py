"""What strangers write moves no cursor and hides no word in a terminal, a log or on a card."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from chartqa_ft import load_chartqa, load_checkpoint, read_predictions, tiny_unichart
from chartqa_ft.data.record_errors import ADVICE, ErrorPolicy, RecordError
from chartqa_ft.hub.card.facts import CardFacts
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.hub.download import fetch_checkpoint
from chartqa_ft.hub.errors import HubError, explained
from chartqa_ft.printable import printable, printable_errors
from chartqa_ft.scripts.parsing import one_line
from chartqa_ft.scripts.running import one_line_errors

BAD = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x08" * 9, "\r", "\x7f", "\x9b31m", "\x00", "\x0b"),
    *(
        "\u202eevil",
        "\u2066x\u2069",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u2028",
        "\u2029",
        "\u0085",
        "\ud800",
        "\U000e0041",
    ),
]
"""Terminal commands in 7 and 8 bits, controls, bidirectional overrides, no width, line ends, a surrogate, a tag."""
HOSTILE = "a".join(BAD)


def is_safe(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t\u00a0" for char in text)


def everything_shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("text", [*BAD, HOSTILE], ids=ascii)
def test_printable_escapes(text):
    assert is_safe(printable(f"before{text}after"))
    assert printable(f"before{text}after").startswith("before\\")
    assert is_safe(printable(text, lines=True))


def test_printable_keeps_all_scripts():
    for text in ("Umsätze", "売上高", "مبيعات", "बिक्री", "ยอดขาย", "🙂", "5\u00a0%", "a b", "C:\\x", ""):
        assert printable(text) == text
    assert printable("a\nb\tc", lines=True) == "a\nb\tc"
    assert printable("a\nb\tc") == "a\\nb\\tc"


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("reason", sorted(ADVICE))
def test_errors_of_records(reason):
    error = RecordError(f"val{HOSTILE}", 3, f"{HOSTILE}.png", reason, f"column {HOSTILE}")
    assert is_safe(str(error))
    assert is_safe(everything_shown(error))
    assert error.file == f"{HOSTILE}.png"  # programs get the true name


@pytest.mark.parametrize("field", ["server_message", "args"])
def test_errors_of_the_hub(field):
    assert is_safe(str(HubError(HOSTILE)))

    class HfHubHTTPError(OSError):
        server_message = None
        response = SimpleNamespace(status_code=400, headers={}, request=None)

    failure = HfHubHTTPError(HOSTILE)
    failure.server_message = HOSTILE if field == "server_message" else None
    with pytest.raises(HubError) as caught, printable_errors(), explained("load", f"bob/{HOSTILE}"):
        raise failure
    assert is_safe(str(caught.value))
    assert is_safe(everything_shown(caught.value))


def test_causes_are_printed_too():
    class Stubborn(Exception):
        def __str__(self) -> str:
            return HOSTILE

    def chain() -> None:
        try:
            try:
                raise Stubborn
            except Stubborn as error:
                raise KeyError(HOSTILE) from error
        except KeyError as error:
            raise ValueError(f"found {HOSTILE}", 3) from error

    with pytest.raises(ValueError, match="found") as caught, printable_errors():
        chain()
    assert is_safe(everything_shown(caught.value))
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.args[1] == 3


NAMED = HOSTILE.replace("\x00", "").replace("\ud800", "").replace("/", "")[:60]
"""What a file can be called."""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / NAMED).mkdir()
    return tmp_path / NAMED


def _records(folder: Path, **record: object) -> Path:
    Image.new("RGB", (32, 24)).save(folder / "chart.png")
    file = folder / f"{NAMED}.json"
    file.write_text(json.dumps([{"imgname": "chart.png", "query": "How many?", "label": "1", **record}]))
    return file


def _shards(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": f"../{HOSTILE}"}}))
    return folder


def _file(folder: Path, content: str) -> Path:
    (folder / f"{NAMED}.json").write_text(content)
    return folder / f"{NAMED}.json"


def _model(folder: Path, **settings: object) -> Path:
    for part in tiny_unichart("test", image_size=64, window_size=4):
        part.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


@pytest.mark.parametrize(
    "attack",
    [
        lambda folder: load_chartqa(_records(folder, imgname=f"{NAMED}.png")),
        lambda folder: load_chartqa(_records(folder, query="")),
        lambda folder: load_chartqa(_records(folder), column_map={"image": HOSTILE}),
        lambda folder: load_chartqa(_records(folder), split=HOSTILE),
        lambda folder: load_chartqa(_file(folder, json.dumps([{HOSTILE: 1}]))),
        lambda folder: load_chartqa(_file(folder, "[1,")),
        lambda folder: load_chartqa(folder / "none"),
        lambda folder: load_chartqa(f"bob/{HOSTILE}"),
        lambda folder: read_predictions(_file(folder, "{")),
        lambda folder: read_predictions(_file(folder, json.dumps({"question": HOSTILE}))),
        fetch_checkpoint,
        lambda folder: fetch_checkpoint(_shards(folder)),
        lambda folder: load_checkpoint(_shards(folder)),
        lambda folder: load_checkpoint(_model(folder, model_type=HOSTILE)),
        lambda folder: load_checkpoint(_model(folder, _attn_implementation=f"user/{HOSTILE}")),
        lambda folder: load_checkpoint(_model(folder, architectures=[HOSTILE], pad_token_id=HOSTILE)),
    ],
)
def test_errors_of_loading(attack: Callable[[Path], object], folder: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ValueError, OSError, TypeError)) as caught:
        attack(folder)
    assert is_safe(str(caught.value)), ascii(str(caught.value))
    assert is_safe(everything_shown(caught.value)), ascii(everything_shown(caught.value))


# ------------------------------------------------------------------ logs, scripts, cards


def test_warnings(caplog):
    policy = ErrorPolicy("skip")
    policy.handle(RecordError(HOSTILE, 0, HOSTILE, "no answer", HOSTILE))
    policy.report()
    logging.getLogger("chartqa_ft.anything").warning("%s: %d %r %.1f", HOSTILE, 3, HOSTILE, 0.5)
    logging.getLogger("chartqa_ft.anything").warning("%(name)s", {"name": HOSTILE})
    logging.getLogger("chartqa_ft.anything").warning(f"made before {HOSTILE}")
    assert len(caplog.records) == 4
    assert all(is_safe(record.getMessage()) for record in caplog.records)
    assert ": 3 " in caplog.messages[1]


def test_logs_of_other_packages_are_left_alone(caplog):
    logging.getLogger("chartqa_ft_other").warning("%s", "\x1b[1mbold")
    assert caplog.messages == ["\x1b[1mbold"]


def test_scripts():
    assert is_safe(one_line(ValueError(HOSTILE)))
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise ValueError(f"the file {HOSTILE} is damaged")
    assert is_safe(str(caught.value))


def test_cards():
    facts = CardFacts(name="alice/model", kind="full", base_model=HOSTILE, licence=HOSTILE, dataset=HOSTILE)
    assert is_safe(render_card(facts))
