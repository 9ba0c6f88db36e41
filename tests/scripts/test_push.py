"""`chartqa-ft push`: its arguments reach `push_checkpoint`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chartqa_ft.scripts import push
from chartqa_ft.scripts.cli import main


def test_arguments_are_those_of_push_checkpoint(monkeypatch, capsys):
    calls = []
    commit = SimpleNamespace(pr_url=None, commit_url="https://hub/alice/m/commit/1")
    monkeypatch.setattr(push, "push_checkpoint", lambda *args, **settings: calls.append((args, settings)) or commit)
    assert main(["push", "out", "alice/m"]) == 0
    assert main(["push", "out", "alice/m", "--private", "--revision", "v1", "--create_pr", "--predictions"]) == 0
    plain = {"private": None, "revision": None, "create_pr": False, "predictions": False}
    plain["commit_message"] = "Upload the model"
    changed = {**plain, "private": True, "revision": "v1", "create_pr": True, "predictions": True}
    assert calls == [(("out", "alice/m"), plain), (("out", "alice/m"), changed)]
    assert capsys.readouterr().out.splitlines()[0] == "pushed: https://hub/alice/m/commit/1"


@pytest.mark.parametrize("folder", ["gone", "."])
def test_what_cannot_be_pushed_ends_with_one_line(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    assert main(["push", folder, "alice/m"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("chartqa-ft push: ")
    assert error.count("\n") == 1
