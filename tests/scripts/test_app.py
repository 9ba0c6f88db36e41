"""`chartqa-ft app`: the command, and the Space that it writes, which runs as it is."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml

from chartqa_ft.scripts import app, cli
from chartqa_ft.scripts.space import requirements, write_space

from ..support.common import environment, kill_all, tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for part in tiny():
        part.save_pretrained(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-5").mkdir()
    return folder


def test_what_cannot_run_is_told_in_one_line(tmp_path, capsys):
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    for arguments, words in (
        (["out", "--num_beams", "1"], "--num_beams=1: the app shows the alternatives of at least 2 beams"),
        (["out", "--max_new_tokens", "0"], "--max_new_tokens=0: an answer has at least 1 token"),
        ([str(tmp_path / "nothing"), "--space", str(tmp_path)], "is not an empty folder"),
        ([str(tmp_path), "--space", str(tmp_path / "new")], "no"),
    ):
        (tmp_path / "file").touch()
        assert app.main(arguments) == cli.main(["app", *arguments]) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert first == second
        assert first.startswith("chartqa-ft app: ")
        assert words in first
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("line", "needless"),
    [
        (["--port", "1", "--use_cpu"], "--port and --use_cpu"),
        (["--no_browser"], "--no_browser"),
        (["--server_name", "0.0.0.0"], "--server_name"),
    ],
)
def test_arguments_of_a_running_app_are_not_ignored_for_a_space(tmp_path, checkpoint, capsys, line, needless):
    assert app.main([str(checkpoint), "--space", str(tmp_path / "space"), *line]) == 2
    assert f"--space writes the app and does not run it: leave out {needless}" in capsys.readouterr().err
    assert not (tmp_path / "space").exists()


def test_a_space_holds_the_model_the_package_and_pins(tmp_path, checkpoint, capsys):
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    assert app.main([str(checkpoint), "--space", str(tmp_path / "space")]) == 0
    told = capsys.readouterr().out
    assert f"hf upload --repo-type space USER/NAME {tmp_path / 'space'} ." in told
    space = tmp_path / "space"
    assert sorted(path.name for path in space.iterdir()) == [
        "README.md",
        "app.py",
        "chartqa_ft",
        "model",
        "requirements.txt",
    ]
    names = {path.name for path in (space / "model").iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    assert "notes.txt" not in names
    assert not list(space.rglob("__pycache__"))
    pins = (space / "requirements.txt").read_text().split()
    assert pins == requirements()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    _, front, text = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["sdk"] == "gradio"
    assert f"gradio=={card['sdk_version']}" in pins
    assert card["app_file"] == "app.py"
    assert card["models"] == []
    assert len(card["title"]) > 4
    assert "nothing is stored" in text


def test_names_become_no_code_and_secrets_stay_here(tmp_path, checkpoint):
    name = 'me/x"]); import os #\n---\nsdk: docker'
    space = write_space(tmp_path / "space", name, gradio="6.0.0")
    compile((space / "app.py").read_text(), "app.py", "exec")
    body = (space / "app.py").read_text()
    assert json.dumps(name) in body
    front = (space / "README.md").read_text(encoding="utf-8").split("\n---\n")[0]
    assert yaml.safe_load(front.removeprefix("---\n"))["sdk"] == "gradio"
    (checkpoint / "training_args.json").write_text(json.dumps({"hub_token": "hf_" + "a" * 34}))
    try:
        with pytest.raises(ValueError, match="contains a secret"):
            write_space(tmp_path / "other", str(checkpoint), gradio="6.0.0")
    finally:
        (checkpoint / "training_args.json").unlink()
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_the_written_space_runs_and_leaves_nothing_behind(tmp_path, checkpoint):
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    space = write_space(tmp_path / "space", str(checkpoint), num_beams=2)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {**environment(), "TMPDIR": str(temporary), "HOME": str(tmp_path)}
    env.pop("PYTHONPATH")
    command = [sys.executable, "app.py", "--server_name", "127.0.0.1", "--max_new_tokens", "3", "--use_cpu"]
    with subprocess.Popen(
        command, cwd=space, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            line = run.stdout.readline()
            found = re.match(r"ask model at (http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)", line)
            assert found, line + run.stderr.read()
            message = _asked(found[1])
            assert message["success"], message
            said, table, _ = message["output"]["data"]
            assert table["data"][0][0] == said
            assert all(row[1].endswith(" %") for row in table["data"])
            assert len(list(temporary.iterdir())) == 1
            os.kill(run.pid, signal.SIGTERM)
            run.wait(timeout=60)
            assert list(temporary.glob("chartqa_app_*")) == []
        finally:
            if run.poll() is None:
                kill_all(run)


def _asked(url: str) -> dict:
    """Ask the first example's question as the page does."""
    config = json.loads(urllib.request.urlopen(f"{url}/config", timeout=60).read())
    samples = next(part for part in config["components"] if part["type"] == "dataset")["props"]["samples"]
    chart, question = samples[0]
    number = next(call["id"] for call in config["dependencies"] if call["api_name"].startswith("respond"))
    session = f"session{time.monotonic_ns()}"
    body = {"data": [chart, question], "fn_index": number, "session_hash": session}
    request = urllib.request.Request(
        f"{url}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).read()
    with urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash={session}", timeout=120) as lines:
        for line in lines:
            message = json.loads(line.decode().removeprefix("data: ")) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def test_a_space_answers_as_the_app_would(tmp_path, checkpoint):
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    arguments = ["--num_beams", "3", "--max_new_tokens", "512"]
    assert app.main([str(checkpoint), *arguments, "--space", str(tmp_path / "space")]) == 0
    given = re.search(r"arguments = (.*)", (tmp_path / "space" / "app.py").read_text())
    parser = argparse.ArgumentParser()
    app.add_app_arguments(parser)
    parsed = parser.parse_args(json.loads(given[1]))
    assert (parsed.num_beams, parsed.max_new_tokens, parsed.revision) == (3, 512, None)


def test_a_space_of_a_folder_has_no_revision(tmp_path, checkpoint, capsys):
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    assert app.main([str(checkpoint), "--revision", "v1", "--space", str(tmp_path / "space")]) == 2
    assert "is a local folder, which has no revision 'v1'" in capsys.readouterr().err
    assert not (tmp_path / "space").exists()
