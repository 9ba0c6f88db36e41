"""The help of scripts, and the nearest known argument."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from chartqa_ft.scripts.help_text import format_arguments, nearest

KNOWN = ["learning_rate", "max_eval_samples", "num_train_epochs", "per_device_train_batch_size", "lora_r", "use_cpu"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--lerning_rate", "learning_rate"),
        ("--LEARNING-RATE", "learning_rate"),
        ("--lr", "learning_rate"),
        ("--epochs", "num_train_epochs"),
        ("--batch_size", "per_device_train_batch_size"),
        ("--max_eval", "max_eval_samples"),
        ("--lora_rank", "lora_r"),
        ("--cpu", "use_cpu"),
        ("--beams", None),
        ("--colour", None),
        ("--", None),
    ],
)
def test_nearest(typed, meant):
    assert nearest(typed, KNOWN) == meant


def test_groups_show_each_argument_once(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--rate", type=float, default=0.1, help="Rate in %% of all, a long text that is wrapped.")
    parser.add_argument("--kind", choices=["a", "b"], help="Kind.")
    parser.add_argument("--a_very_long_name_of_an_argument", nargs="+", type=int, help="Sizes.")
    text = format_arguments(parser._actions, {"First": ["kind", "gone"]}, {"Others": ["kind", "rate"]})
    assert text == (
        "First:\n"
        "  --kind a|b                  Kind.\n"
        "\n"
        "Others:\n"
        "  --rate NUMBER               Rate in % of all, a long text\n"
        "                              that is wrapped. (default:\n"
        "                              0.1)"
    )
    text = format_arguments(parser._actions, {"All": ["a_very_long_name_of_an_argument"]})
    assert text.splitlines()[1:] == ["  --a_very_long_name_of_an_argument INT ...", " " * 30 + "Sizes."]
