"""A tracker that is unknown or not installed is refused when the arguments are made, before anything is loaded."""

from __future__ import annotations

import pytest
from transformers.integrations import integration_utils

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.training.checks.trackers import _AVAILABLE, _PACKAGES

NAMES = sorted(integration_utils.INTEGRATION_TO_CALLBACK)


def made(report_to, folder="out"):
    return ChartQATrainingArguments(output_dir=str(folder), use_cpu=True, report_to=report_to)


def test_every_tracker_of_upstream_has_its_package_and_its_check():
    assert sorted([*_PACKAGES, "kubeflow"]) == NAMES
    for name in _PACKAGES:
        assert callable(getattr(integration_utils, _AVAILABLE.get(name, f"is_{name}_available")))


@pytest.mark.parametrize("name", sorted(_PACKAGES))
def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install(name, monkeypatch):
    monkeypatch.setattr(integration_utils, _AVAILABLE.get(name, f"is_{name}_available"), lambda: False)
    for given in (name, [name]):
        with pytest.raises(ValueError, match=f"report_to='{name}' needs .*: pip install {_PACKAGES[name]}, or leave"):
            made(given)


def test_others_are_named_and_lists_of_a_command_line_are_read(monkeypatch):
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    with pytest.raises(ValueError, match=r"'tensorbord' is no tracker; did you mean tensorboard\?"):
        made("tensorbord")
    with pytest.raises(ValueError, match=r"'xyz' is no tracker; known are .*wandb"):
        made(["xyz"])
    with pytest.raises(ValueError, match="KUBEFLOW_TRAINER_SERVER_URL"):
        made("kubeflow")
    for name in ("wandb", "tensorboard"):
        monkeypatch.setattr(integration_utils, f"is_{name}_available", lambda: True)
    assert made("wandb, tensorboard").report_to == ["wandb", "tensorboard"]
    assert made(("wandb", "tensorboard")).report_to == ["wandb", "tensorboard"]
    assert made("none").report_to == made(None).report_to == []
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["wandb"])
    assert made("all").report_to == ["wandb"]
