"""What goes to the Hub and comes from it: downloads, pushes, model cards and plain errors, without secrets."""

from .card.facts import CardFacts, CardSample
from .card.metadata import read_card
from .card.render import render_card, write_card
from .errors import HubError
from .push import push_checkpoint

__all__ = ["CardFacts", "CardSample", "HubError", "push_checkpoint", "read_card", "render_card", "write_card"]
