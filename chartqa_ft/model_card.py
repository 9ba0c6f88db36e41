"""The path of earlier releases for `chartqa_ft.hub`; it goes with the next one."""

from .hub import CardFacts, CardSample, read_card, render_card, write_card  # noqa: F401
