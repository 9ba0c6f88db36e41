"""Where a loaded model came from, so that what is trained on it can name its base to the commit."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from ..adapters import base_model

_KEY = "chartqa_origin"


class Origin(NamedTuple):
    """The checkpoint that a model was loaded from."""

    name: str
    """A local folder, or the name of a model on the Hub."""
    revision: str | None
    """The commit on the Hub; `None` for a folder."""
    is_peft: bool = False
    """Whether the checkpoint is a PEFT adapter, which was merged into its base model."""


def set_origin(model: nn.Module, origin: Origin) -> None:
    """Give the model the name that an adapter trained on it stores as its base: no cache folder of this machine, nor
    the base without what was merged into it."""
    model.name_or_path = origin.name
    setattr(model, _KEY, origin)


def origin_of(model: nn.Module) -> Origin | None:
    """Of the model, or of the one inside a `PeftModel`; `None` where it is not known, or the model was renamed."""
    model = base_model(model)
    origin = getattr(model, _KEY, None)
    return origin if origin is not None and origin.name == model.name_or_path else None


def revision_of(model: nn.Module) -> str | None:
    """The commit that the model was loaded from, as far as known."""
    origin = origin_of(model)
    return None if origin is None else origin.revision
