"""The argument `report_to`: trackers that are unknown or not installed are refused before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["tracker_refusals"]

_PACKAGES = {
    "azure_ml": "azureml-sdk",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet-ml",
    "dagshub": "dagshub mlflow",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Name in `report_to` -> what to install for it."""

_AVAILABLE = {"azure_ml": "is_azureml_available", "comet_ml": "is_comet_available", "flyte": "is_flytekit_available"}
"""Name in `report_to` -> upstream's function that looks for its package, where it is not is_<name>_available."""


def tracker_refusals(report_to: Any) -> Iterator[str]:
    """Yield a message for every tracker that is unknown or not installed.

    Upstream refuses them only when the trainer is created, after the data and the model were loaded.

    Args:
        report_to: the argument: a name, a list of names, "all" (those that are installed), "none" or `None`.

    Example:
        >>> list(tracker_refusals("tensorbord"))
        ["report_to: 'tensorbord' is no tracker; did you mean tensorboard?"]
        >>> list(tracker_refusals("none"))
        []
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    if names in (["all"], ["none"]):
        return
    from transformers.integrations import integration_utils as upstream

    known = list(upstream.INTEGRATION_TO_CALLBACK)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            rest = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}, and all or none by itself"
            yield f"report_to: {name!r} is no tracker; {rest}"
        elif name == "kubeflow":
            if not upstream.is_kubeflow_available():
                yield (
                    "report_to='kubeflow' needs KUBEFLOW_TRAINER_SERVER_URL, which a Kubeflow TrainJob sets: leave it "
                    "out elsewhere"
                )
        elif not _is_installed(upstream, name):
            package = _PACKAGES.get(name, name)
            yield f"report_to={name!r} needs a package that is not installed: pip install {package}, or leave it out"


def _is_installed(upstream: ModuleType, name: str) -> bool:
    check = getattr(upstream, _AVAILABLE.get(name, f"is_{name}_available"), None)
    return check is None or bool(check())  # upstream decides about trackers that are newer than this list
