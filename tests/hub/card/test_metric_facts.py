"""The card names the intervals and the extraction of its scores."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from chartqa_ft.hub.card.render import render_card

from .examples import facts


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ("wilson", "Wilson score intervals. They treat questions as independent"),
        ("bootstrap", "Bootstrap percentile intervals. They treat questions as independent"),
        ("clustered", "Intervals clustered by chart (sandwich estimate)."),
    ],
)
def test_the_card_names_its_intervals(interval, text):
    card = render_card(facts(metric_interval=interval))
    assert text in card
    assert sum(kind in card for kind in ("Wilson score", "Bootstrap percentile", "clustered by chart")) == 1
    details = ModelCard(card).data.eval_results[0].metric_args
    assert details.get("interval", "wilson") == interval
    assert "extract" not in details


def test_the_card_names_the_extraction():
    assert "found in the generated texts" not in render_card(facts())
    card = render_card(facts(metric_extract="answer_line"))
    assert "Answers were found in the generated texts by the step" in card
    assert ModelCard(card).data.eval_results[0].metric_args["extract"] == "answer_line"


def test_variants_of_decimal_commas_have_their_rule():
    assert "numbers have a decimal comma" in render_card(facts(metric_variant="decimal_comma"))
    assert "if the labels have one" in render_card(facts(metric_variant="detect_decimal_comma"))
