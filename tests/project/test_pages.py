"""What the README and the pages tell a user to run, as it stands there, against a hub on loopback.

The hub has tiny models and drawn charts under the real names.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import csv
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from datasets import Dataset, Image

from chartqa_ft import ChartQATrainingArguments, format_table
from chartqa_ft.metrics.correctness import ALIASES, VARIANTS
from chartqa_ft.metrics.notation import DETECTED
from chartqa_ft.scripts.app import add_app_arguments
from chartqa_ft.scripts.check_model import CheckModelArguments
from chartqa_ft.scripts.cli import command_parser
from chartqa_ft.scripts.evaluate_served import ServedArguments

from ..hub_client import Client
from ..hub_server import HubServer, environment
from ..support import families
from ..support.common import ROOT
from ..support.hub_charts import as_m4
from ..support.launching import EVALUATE, FINETUNE, LORA, OWN, TIMEOUT, answers, example, report
from ..support.pages import PAGES, TEXTS, blocks, commands, every, spans

LARGER = "--learning_rate 0.001 --warmup_steps 0"
"""With this, two steps change the answers of the tiny Qwen2.5-VL, and leave different ones to different questions."""
OWN_MODULE = {name for name in PAGES if (Path(__file__).parent / f"test_{PAGES[name].stem}_page.py").is_file()}
"""Pages whose commands are run by a module of their own."""
READ = [text for name, text in TEXTS.items() if name not in OWN_MODULE]
TEXT = "\n".join(READ)
CHART = "UklGR"
"""How the base64 of a WebP file begins: what a report has charts by."""
COMMANDS = every([commands(text) for text in READ])
CODE = every([blocks(text, "python") for text in READ])
FLOWS = "tests.drivers.page_flows."
NOT_RUN = {
    "pip install": "make test installs the package from the same setup.cfg",
    "make demo": "tests/scripts/test_demo.py runs its script",
    "make test": "runs this very test",
    "ddp.yaml": "asks for eight GPUs; tests/scripts/test_accelerate_configs.py reads it",
    "check_model.py": "tests/scripts/test_check_model.py runs its script",
    "--quantize 4": "bitsandbytes wants a CUDA GPU; tests/scripts/test_examples.py parses it",
}
RUN = {
    "unichart-base-960 --dataset_name",
    "evaluate_checkpoint.py --model_name_or_path out",
    "chartqa-ft report scores",
    "--output_dir before",
    "chartqa-ft compare before scores",
    "chartqa-ft push",
    "config.yaml",
    "--num_processes 2",
    "Qwen/",
    "--use_dora",
    "--lora False",
    "--freeze vision",
    "--image_dir charts --output_dir out_own",
    "--output_dir out_own_lora",
    "chartqa-ft report out_own",
}
"""What stands in one command alone: each of them is run below."""
BLOCKS = {
    'trainer = ChartQATrainer("',
    "peft_config",
    "hyperparameter_search",
    "register_adapter",
    "push_dataset",
    "sold least",
    "print(data)",
    "compare_predictions",
}
"""The same of the blocks of Python."""


def command(mark: str) -> str:
    assert mark in RUN
    (found,) = (line for line in COMMANDS if mark in line and not any(part in line for part in NOT_RUN))
    return found


def python(mark: str) -> str:
    assert mark in BLOCKS
    (found,) = (block for block in CODE if mark in block)
    return found


def pushing() -> str:
    """The arguments that push, which the page on the Hub adds to any command."""
    (found,) = re.findall(r"`(--push_to_hub --hub_model_id [^`]+)`", TEXTS["examples/hub.md"])
    return found


# ---------------------------------------------------------------- a hub, a user, a folder


class World:
    """A hub with what users start from under its real names, and a user who is logged in."""

    def __init__(self, folder: Path):
        self.folder, self.hub = folder, HubServer(folder / "hub")
        self.token = self.hub.add_user("user")

    def variables(self, home: str) -> dict[str, str]:
        """Those of a shell with the project's Python in front, HF_ENDPOINT and HF_TOKEN set, and no GPU."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return environment(self.hub, self.folder / home, token=self.token) | {"PATH": path, "CUDA_VISIBLE_DEVICES": ""}

    def shell(self, folder: Path, line: str, *more: str, home: str = "home") -> str:
        """Run a line in `folder`, with more arguments; what it says on stdout."""
        line, variables = " ".join([line, *more]), self.variables(home)
        done = subprocess.run(
            line, shell=True, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("pages"))
    matcha = families.build("pix2struct")
    served = {
        "Qwen/Qwen2.5-VL-3B-Instruct": families.build("qwen2_5_vl"),
        "HuggingFaceTB/SmolVLM-256M-Instruct": families.build("smolvlm"),
        "google/paligemma-3b-pt-448": families.build("paligemma"),
        "google/matcha-base": (with_positions(matcha[0], 1024), matcha[1]),
    }
    with world.hub as hub:
        for name, parts in served.items():
            for part in parts:
                part.save_pretrained(world.folder / "served" / name)
            hub.upload(name, world.folder / "served" / name)
        # In the layout of the published checkpoint, that of transformers 4.28.1.
        hub.upload("ahmed-masry/unichart-base-960", ROOT / "tests" / "golden" / "modern" / "checkpoint")
        # The validation questions are those of the test split, so that both are scored alike.
        charts = Dataset.from_list(families.records(16)).cast_column("image", Image())
        splits = {"train": charts, "val": charts.select(range(6)), "test": charts.select(range(6))}
        files = {f"data/{split}-00000-of-00001.parquet": as_m4(rows) for split, rows in splits.items()}
        hub.upload("HuggingFaceM4/ChartQA", files, repo_type="dataset")
        yield world
    written = [path for path in world.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if world.token.encode() in path.read_bytes()]
    assert not [path for path in written if path.name == "training_args.bin"]


def with_positions(model: Any, positions: int) -> Any:
    """A Pix2Struct of the same sizes, with other weights, that takes so many patches."""
    model.config.vision_config.seq_len = positions
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        larger = type(model)(model.config)
    larger.generation_config = model.generation_config
    return larger


@pytest.fixture(scope="module")
def client(world) -> Iterator[Client]:
    """A process that runs one thing after another: importing takes longer than most of them."""
    with Client(world.variables("client"), world.folder / "client.log") as client:
        yield client


@pytest.fixture
def folder(world, request) -> Path:
    """Where a user stands: nothing but `examples`."""
    folder = world.folder / "runs" / request.node.name
    folder.mkdir(parents=True)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def write_own_charts(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Images in `charts`, their questions in questions.csv and charts.json."""
    (folder / "charts").mkdir()
    for row in rows:
        row["image"].save(folder / "charts" / f"{row['chart_id']}.png")
    named = [{**row, "image": f"{row['chart_id']}.png"} for row in rows]
    with open(folder / "questions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "question", "answer"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(named)
    told = [{**row, "image": f"charts/{row['image']}"} for row in named]
    (folder / "charts.json").write_text(json.dumps(told), encoding="utf-8")


def run(client: Client, folder: Path, line: str, *more: str) -> str:
    """Run a command line of the pages in the process of `client`, with more arguments; what it prints."""
    program, *arguments = shlex.split(" ".join([line, *more]))
    if program == "chartqa-ft":
        return client.call(FLOWS + "chartqa_ft", arguments, folder, timeout=TIMEOUT)
    arguments = arguments[1:] if program == "accelerate" else arguments
    return client.call(FLOWS + "launch", arguments, folder, timeout=TIMEOUT)


def scores(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key.startswith(("eval_loss", "eval_n", "eval_relaxed"))}


# ---------------------------------------------------------------- commands


def test_every_command_and_block_is_run_or_has_its_reason():
    left_out = [line for line in COMMANDS if any(mark in line for mark in NOT_RUN)]
    assert sorted([*map(command, RUN), *left_out]) == sorted(COMMANDS)
    assert [mark for mark in NOT_RUN if not any(mark in line for line in left_out)] == []
    assert sorted(map(python, BLOCKS)) == sorted(CODE)
    languages = {name for text in READ for name in re.findall(r"^```(\w+)$", text, flags=re.MULTILINE)}
    assert languages <= {"python", "text", "yaml"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {line.split()[1] for line in left_out if line.startswith("make ")} <= set(targets)


def test_every_extra_that_is_installed_is_one_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = re.findall(r"pip install [\"']?\.(?:\[([\w,]+)\])?", TEXT)
    assert len(named) > 1
    assert {extra for extras in named for extra in extras.split(",") if extra} <= set(setup["options.extras_require"])


def test_every_argument_in_the_text_is_one_of_a_script():
    modules = [example(path) for path in (FINETUNE, LORA, OWN)]
    classes = [ChartQATrainingArguments, example(EVALUATE).EvaluationArguments]
    classes += [module.ScriptArguments for module in modules]
    classes += [CheckModelArguments, ServedArguments]
    known = {"help", "help_all", *(field.name for one in classes for field in dataclasses.fields(one))}
    known |= set(vars(launch_command_parser().parse_args(["script.py"])))
    for line in every([COMMANDS, *map(spans, READ)]):
        if line.startswith("chartqa-ft "):
            name, *rest = shlex.split(line)[1:]
            if name in ("compare", "export", "push", "report"):  # the others take arguments of the classes above
                known |= set(vars(command_parser(name).parse_args(rest)))
    app = argparse.ArgumentParser()
    add_app_arguments(app)
    known |= set(vars(app.parse_args(["model"])))
    known |= set(vars(command_parser("report").parse_args(["a"])))
    known |= set(vars(command_parser("compare").parse_args(["a", "b"])))
    named = {name for span in spans(TEXT) if "--" in span for name in re.findall(r"(?<!\S)--(\w+)(?![\w-])", span)}
    assert len(named) > 10
    assert named <= known, named - known


def test_every_test_that_the_text_names_is_there():
    """`::test_name` stands for one in the file that was named last in its row."""
    named, module = [], ""
    for span in re.findall(r"`(\S*test_[^`\s]*)`", TEXT):
        file, _, name = span.partition("::")
        module = file.removeprefix("tests/") or module
        named.append((module, name))
    assert len(named) > 15
    for module, name in named:
        code = (ROOT / "tests" / module).read_text(encoding="utf-8")
        assert (f"def {name}(" if name else "def test_") in code, (module, name)


def test_the_page_on_evaluation_names_every_variant():
    text = TEXTS["examples/evaluation.md"].partition("### Variants")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == sorted([*VARIANTS, DETECTED])
    assert all(f"`{alias}`" in text for alias in ALIASES)


def test_the_arguments_of_the_yaml_file(tmp_path, monkeypatch):
    """The file and the command of the page, up to the training. Appended is `--use_cpu`."""
    (file,) = every([blocks(text, "yaml") for text in READ])
    (tmp_path / "config.yaml").write_text(file, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    taken: list[Any] = []
    monkeypatch.setattr(example(LORA), "train", lambda *given: taken.extend(given))
    _, arguments = command("config.yaml").split(f" examples/{LORA.name} ")
    example(LORA).main([*shlex.split(arguments), "--use_cpu"])
    script, args = taken
    assert (script.max_pixels, script.lora_r, script.lora_target_modules[0]) == (602112, 32, "q_proj")
    assert (script.report, args.num_train_epochs, args.output_dir) == (True, 2, "out_yaml")
    assert args.learning_rate == 2e-4


def test_unichart_is_trained_scored_and_compared(world, client, folder):
    """The README, and the pages on evaluation and the Hub. Appended is `--max_steps 2`, in place of 40,000.

    It is pushed under another name, since other tests push `user/model`.
    """
    world.shell(folder, command("unichart-base-960 --dataset_name"), "--max_steps 2")
    said = world.shell(folder, command("evaluate_checkpoint.py --model_name_or_path out"))
    assert answers(folder / "scores") == answers(folder / "out")
    assert scores(report(folder / "scores")) == scores(report(folder / "out"))
    assert report(folder / "out")["eval_n"] == 6
    assert format_table(report(folder / "scores"), prefix="eval_") in said

    page = (folder / "scores" / "report.html").read_text(encoding="utf-8")
    assert CHART in page
    assert all(row["question"] in page for row in answers(folder / "scores"))
    assert {"answers.png", "curves.png"} <= set(os.listdir(folder / "out"))
    (folder / "charts").mkdir()
    for row, drawn in zip(answers(folder / "scores"), families.records(6), strict=True):
        drawn["image"].save(folder / "charts" / f"{row['chart_id']}.png")
    run(client, folder, command("chartqa-ft report scores"))
    assert CHART in (folder / "scores" / "again.html").read_text(encoding="utf-8")
    assert (folder / "scores" / "report.html").read_text(encoding="utf-8") == page

    run(client, folder, command("chartqa-ft push").replace("user/model", "user/unichart"))
    assert {"model.safetensors", "README.md", "predictions.jsonl"} <= set(world.hub.files("user/unichart"))
    assert world.hub.is_private("user/unichart")
    run(client, folder, command("--output_dir before"))
    said = run(client, folder, command("chartqa-ft compare before scores"))
    assert re.search(r"^all .* 6$", said, flags=re.MULTILINE)
    difference = client.call(FLOWS + "block", python("compare_predictions"), folder)
    before, after = (report(folder / name)["eval_relaxed_accuracy"] for name in ("before", "scores"))
    assert float(difference) == pytest.approx(after - before)


@pytest.mark.long
def test_two_processes(world, folder):
    """With `--use_cpu`, as the page says, and `--max_steps 2`."""
    world.shell(folder, command("--num_processes 2"), "--max_steps 2 --use_cpu")
    assert report(folder / "out")["num_processes"] == 2
    assert report(folder / "out")["eval_n"] == len(answers(folder / "out")) == 6


@pytest.mark.long
def test_an_adapter_comes_back_from_the_hub(world, folder):
    """Appended are arguments for larger steps, and that the answers are greedy, as those of the training are."""
    said = world.shell(folder, command("Qwen/"), pushing(), LARGER)
    (name,) = re.findall(r"--hub_model_id (\S+)", pushing())
    (commit,) = world.hub.commits(name)[:-1]
    assert f"pushed: {world.hub.url}/{name}/commit/{commit.sha}" in said
    out, sent = folder / "out_lora", world.hub.files(name)
    assert sent["adapter_model.safetensors"] == (out / "adapter_model.safetensors").read_bytes()
    assert not [path for path in (*sent, *os.listdir(out)) if path == "model.safetensors"]
    pulled = f"--model_name_or_path {name} --generation_num_beams 1"
    world.shell(folder, command("evaluate_checkpoint.py --model_name_or_path out"), pulled, home="fresh")
    assert answers(folder / "scores") == answers(out)
    assert len({row["prediction"] for row in answers(out)}) > 1
    assert scores(report(folder / "scores")) == scores(report(out)) == scores(json.loads(sent["metrics.json"]))


@pytest.mark.parametrize(("mark", "name"), [("--use_dora", "out_dora"), ("--lora False", "out_matcha")])
@pytest.mark.long
def test_other_families(client, folder, mark, name):
    run(client, folder, command(mark))
    out = folder / name
    adapter = (out / "adapter_config.json").is_file()
    assert adapter == (mark == "--use_dora")
    if adapter:
        assert json.loads((out / "adapter_config.json").read_text())["use_dora"] is True
    assert report(out)["eval_n"] == len(answers(out)) == 6


def test_parts_and_a_mixture_of_data_sets(client, folder):
    """Appended is `--max_steps 2`, in place of one epoch."""
    write_own_charts(folder, families.records(8))
    said = run(client, folder, command("--freeze vision"), "--max_steps 2")
    assert re.search(
        r"parts: vision is frozen; projector has \S+ parameters to train at learning rate 0.0001; lang", said
    )
    out = folder / "out_mixed"
    assert report(out)["eval_n"] == len(answers(out)) == 6
    arguments = report(out)["arguments"]
    assert (arguments["other_datasets"], arguments["dataset_weights"]) == (["charts.json"], [0.9, 0.1])


def test_own_charts(client, folder):
    """The page from its first command to its last block; `charts/new.png` is a chart beside those of the CSV file.

    The second training is cut from 10 epochs to 2 steps.
    """
    rows = families.records(12)
    write_own_charts(folder, rows[1:])
    rows[0]["image"].save(folder / "charts" / "new.png")
    run(client, folder, command("--image_dir charts --output_dir out_own"))
    out, out_lora = folder / "out_own", folder / "out_own_lora"
    asked = [row["question"] for row in answers(out)]
    assert 0 < len(asked) == report(out)["eval_n"] < len(rows)
    assert set(asked) <= {row["question"] for row in rows}
    assert (out / "answers.png").is_file()

    run(client, folder, command("chartqa-ft report out_own"))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(question in page for question in asked)
    assert CHART in page
    (answer,) = ast.literal_eval(client.call(FLOWS + "block", python("sold least"), folder))
    assert isinstance(answer, str)
    said = client.call(FLOWS + "block", python("print(data)"), folder)
    assert f"num_rows: {len(rows) - 1}" in said

    run(client, folder, command("--output_dir out_own_lora"), "--max_steps 2")
    assert (out_lora / "adapter_config.json").is_file()
    assert [row["question"] for row in answers(out_lora)] == asked


# ---------------------------------------------------------------- Python


def shortened(code: str, *settings: str) -> str:
    """The block with these settings of its training, `name=value`, in place of its own."""
    for setting in settings:
        code = re.sub(rf"\b{setting.partition('=')[0]}=[^\s,]+,? ?", "", code)
    code, n = re.subn(r"ChartQATrainingArguments\(", rf"\g<0>{', '.join(settings)}, ", code)
    assert n == 1, code
    return code


def test_python_blocks(world, client, folder):
    """One after another in one process; the trainings are cut from 40,000 steps to 2, the adapter's with larger steps.

    The search is cut to two trials of one step.

    `user/model`, which the block on pulling loads, is what the block on LoRA trained.
    """
    said = client.call(FLOWS + "block", shortened(python('trainer = ChartQATrainer("'), "max_steps=2"), folder)
    (answer,) = ast.literal_eval(said.splitlines()[-1])
    assert isinstance(answer, str)
    trained = client.call(FLOWS + "trained")
    assert trained["steps"] == 2
    assert client.call(FLOWS + "answers", "out") == trained["answers"]

    search = shortened(python("hyperparameter_search"), "max_steps=1", "generation_num_beams=1")
    said = client.call(FLOWS + "block", search.replace("n_trials=10", "n_trials=2"), folder)
    assert set(ast.literal_eval(said.splitlines()[-1])) == {"learning_rate", "vision"}
    assert not list((folder / "search").rglob("*.safetensors"))

    (folder / "lora").mkdir()
    settings = ["max_steps=2", "learning_rate=0.001", "warmup_steps=0", "hub_model_id='user/model'"]
    client.call(FLOWS + "block", shortened(python("peft_config"), *settings), folder / "lora")
    assert not (folder / "lora" / "out_lora" / "model.safetensors").exists()
    trained = client.call(FLOWS + "trained")
    assert trained["steps"] == 2
    assert client.call(FLOWS + "answers", "out_lora") == client.call(FLOWS + "answers", "out_lora", merge=True)
    assert client.call(FLOWS + "answers", "out_lora") == trained["answers"]
    assert len(set(trained["answers"])) > 1
    assert trained["answers"] != client.call(FLOWS + "answers", "Qwen/Qwen2.5-VL-3B-Instruct")
    client.call(FLOWS + "push", "v1")

    client.call(FLOWS + "block", python("register_adapter"), folder)  # used by tests/adapters/test_causal.py

    rows = families.records(8)
    write_own_charts(folder, rows)
    hub, name = world.hub, "user/charts"
    hub.create_repo(name, repo_type="dataset", private=True)
    charts = Dataset.from_list(rows[:3]).cast_column("image", Image())
    hub.upload(name, {"data/test-00000-of-00001.parquet": as_m4(charts)}, repo_type="dataset", revision="v1")
    client.call(FLOWS + "block", python("push_dataset"), folder)
    assert client.call(FLOWS + "answers") == trained["answers"]
    assert client.call(FLOWS + "streamed") == {"test": [[row["question"], row["answer"]] for row in rows[:3]]}
    files = hub.files(name, repo_type="dataset")
    assert "license: cc-by-4.0" in files["README.md"].decode()
    assert [path for path in files if path.endswith(".parquet")] == ["data/train-00000-of-00001.parquet"]
