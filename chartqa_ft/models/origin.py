"""Where a loaded model came from, so that what is trained on it can name the exact commit of its base model."""

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
    """Whether it is a PEFT checkpoint, which was merged into its base model."""
    changed: tuple[str, ...] = ()
    """The arguments of loading that changed the config of the checkpoint, as `name=value`."""


def set_origin(model: nn.Module, origin: Origin) -> None:
    """Record the checkpoint that a model was loaded from.

    PEFT weights trained on the model store this name as their base model. Otherwise it would be a local cache folder,
    or the base model without the weights that were merged into it.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> set_origin(model, Origin("alice/charts", "b605b6e"))
        >>> model.name_or_path, revision_of(model)
        ('alice/charts', 'b605b6e')
    """
    model.name_or_path = origin.name
    setattr(model, _KEY, origin)


def origin_of(model: nn.Module) -> Origin | None:
    """Return the origin of a model, or of the base model in a `PeftModel`.

    It is `None` if it is unknown, or if the model was renamed since.
    """
    model = base_model(model)
    origin = getattr(model, _KEY, None)
    return origin if origin is not None and origin.name == model.name_or_path else None


def revision_of(model: nn.Module) -> str | None:
    """Return the commit that a model was loaded from, `None` if it is unknown."""
    origin = origin_of(model)
    return None if origin is None else origin.revision
