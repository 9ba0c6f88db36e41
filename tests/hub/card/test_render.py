"""Model cards: numbers that come back, text that breaks out of nothing, no token, snippets that run as pasted."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image, PngImagePlugin

from chartqa_ft.adapters import adapter_for
from chartqa_ft.hub import CardFacts, CardSample, read_card
from chartqa_ft.hub.card.hyperparameters import hyperparameters
from chartqa_ft.hub.card.markdown import escaped, fenced
from chartqa_ft.hub.card.render import render_card, write_card
from chartqa_ft.hub.card.rules import RULES
from chartqa_ft.hub.public import TOKEN_REMOVED, redact
from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.metrics.correctness import VARIANTS
from chartqa_ft.models.chartqa_config import save_settings
from chartqa_ft.models.lora import add_peft, default_lora_config
from chartqa_ft.reporting import curve as curves
from chartqa_ft.training import ChartQATrainingArguments

from ...support.common import arguments, tiny
from ...support.family_cases import ready

TOKEN = "hf_" + "aB3" * 11 + "z"
NASTY = [
    'a: b # "c"',
    "---\nlicense: evil\n---\n# Title",
    "x\n```\n# out\n```python\nimport os",
    "````\n~~~\n</code></pre>",
    "<script>alert(1)</script><img src=x onerror=y> &lt;b&gt;",
    "{{ 7 * 7 }}{% raw %}{# c #}{% endif %}",
    "| a | b |\n|---|---|\n| c | d |",
    "[link](https://evil.example) ![pic](x.png) <https://evil.example> [ref]: x",
    "*bold* _it_ ~~gone~~ `code` **b** __b__ $x$ \\(y\\) \\",
    "# heading\r\n1. one\r- two\n> quote\n===\n\n---\n",
    '\'quote\' """ %s {question} \x00\x1b[31m \u202egpj.exe \u2028 \ud800 \U0001f4c8',
    "!!python/object:os.system [x]",
    "~ null",
]
LOG = [
    {"step": 10, "loss": 2.0, "learning_rate": 1e-3},
    {"step": 20, "loss": math.nan},
    {"step": 20, "eval_loss": 1.5, "eval_relaxed_accuracy": 0.25, "eval_relaxed_accuracy_human": 0.125, "eval_n": 8},
    {"step": 30, "loss": 1.0},
    {"step": 30, "loss": 1.25},
    {"step": 40, "eval_own_relaxed_accuracy": 0.5, "eval_own_relaxed_accuracy_ci_low": 0.3},
    {"train_loss": 1.0},
]


def scores(**changes):
    predictions = ["1", "2", "3", "4", "5", "6", "7"]
    settings = {"sources": ["human"] * 3 + ["augmented"] * 4, "references": ["1", "2", "0", "4", "5", "6", "1"]}
    return relaxed_accuracy(predictions=predictions, **{**settings, **changes})


def facts(**changes):
    settings = {
        "name": "alice/chart-reader",
        "kind": "full",
        "base_model": "bob/base",
        "base_revision": "abc123",
        "licence": "apache-2.0",
        "settings": {"adapter": "decoder-prompt", "prompt": "<chartqa> {question} <s_answer>"},
        "dataset": "HuggingFaceM4/ChartQA",
        "dataset_revision": "def456",
        "eval_split": "test",
        "metrics": scores(),
        "decoding": {"num_beams": 4, "max_new_tokens": 128},
        "step": 4000,
        "versions": {"torch": "2.13.0"},
        "command": "accelerate launch train.py",
    }
    return CardFacts(**{**settings, **changes})


def of_accuracy(metrics):
    return {key: value for key, value in metrics.items() if key.startswith(("relaxed_accuracy", "n", "n_"))}


class Page(HTMLParser):
    """Which tags a page has, and the text of each."""

    def __init__(self, card: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(ModelCard(card).text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append((tag, ""))
        self._open.append(len(self.texts) - 1)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for number in self._open:
            tag, text = self.texts[number]
            self.texts[number] = (tag, text + data)

    def of(self, tag):
        return [text.strip() for name, text in self.texts if name == tag]


# ------------------------------------------------------------------ numbers
@pytest.mark.parametrize("sources", [["human"] * 3 + ["augmented"] * 4, ["human"] * 7, ["unknown"] * 7, ["own"] * 7])
def test_the_numbers_come_back(sources, tmp_path):
    metrics = scores(sources=sources, question_types=["Multi Choice"] * 2 + ["Fact"] * 5)
    card = render_card(facts(metrics=metrics))
    assert read_card(card) == of_accuracy(metrics)
    assert "nan" not in card.lower().replace("finance", "")
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert read_card(tmp_path) == read_card(tmp_path / "README.md") == read_card(str(tmp_path)) == read_card(card)


def test_numbers_of_the_trainer_are_read_with_their_prefix():
    metrics = scores()
    prefixed = {f"eval_{key}": np.float64(value) for key, value in metrics.items()} | {"eval_loss": 1.0, "epoch": 2}
    assert read_card(render_card(facts(metrics=prefixed, metric_prefix="eval_"))) == of_accuracy(metrics)


def test_the_model_index_says_what_was_measured():
    card = ModelCard(render_card(facts()))
    (model,) = yaml.safe_load(card.content.split("---\n")[1])["model-index"]
    assert model["name"] == "alice/chart-reader"
    (result,) = model["results"]
    assert result["task"] == {"type": "visual-question-answering", "name": "Chart question answering"}
    dataset = {"type": "HuggingFaceM4/ChartQA", "name": "ChartQA", "split": "test", "revision": "def456"}
    assert result["dataset"] == dataset
    human, augmented, mean, pooled = result["metrics"]
    assert [metric["value"] for metric in (human, augmented, mean, pooled)] == [66.67, 75.0, 70.83, 71.43]
    assert {metric["type"] for metric in result["metrics"]} == {"relaxed_accuracy"}
    low, high = (scores()[f"relaxed_accuracy_human_ci_{end}"] for end in ("low", "high"))
    assert human["args"] == {
        "variant": "pix2struct",
        "num_beams": 4,
        "max_new_tokens": 128,
        "step": 4000,
        "questions": "human",
        "n": 3,
        "fraction": 2 / 3,
        "ci_low": low,
        "ci_high": high,
        "confidence": 0.95,
    }
    assert human["config"] == "pix2struct"
    assert mean["args"]["n"] == 7


def test_the_table_shows_percent_interval_and_n():
    card = render_card(facts())
    rows = ["human | 66.67 | 20.77 - 93.85 | 3", "augmented | 75.00 | 30.06 - 95.44 | 4", "pooled | 71.43 |"]
    assert all(f"\n| {row}" in card for row in rows)
    assert "95 % interval" in card
    assert "num_beams = 4, max_new_tokens = 128" in card


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.5"])
def test_what_is_no_number_has_no_row(value):
    metrics = {**scores(), "relaxed_accuracy_human": value, "relaxed_accuracy_mean_of_splits": value}
    found = read_card(render_card(facts(metrics=metrics)))
    assert set(found) == {key for key in of_accuracy(scores()) if "human" not in key and "mean" not in key}
    limitless = {**scores(), "relaxed_accuracy_ci_low": value}
    assert "relaxed_accuracy_ci_low" not in read_card(render_card(facts(metrics=limitless)))


def test_without_scores_the_card_says_so():
    card = render_card(facts(metrics={}))
    assert "was not evaluated" in card
    assert "model-index" not in card
    assert read_card(card) == {}


def test_a_number_that_was_changed_by_hand_is_noticed():
    card = render_card(facts())
    with pytest.raises(ValueError, match="changed by hand"):
        read_card(card.replace("value: 66.67", "value: 96.67"))


def test_every_variant_has_a_rule():
    assert set(RULES) == set(VARIANTS)
    assert "variant pix2struct." in render_card(facts(metric_variant="relaxed"))
    with pytest.raises(ValueError, match="unknown variant"):
        render_card(facts(metric_variant="my own"))
    with pytest.raises(ValueError, match="kind must be one of"):
        render_card(facts(kind="half"))


# ------------------------------------------------------------------ metadata
@pytest.mark.parametrize(
    ("kind", "library", "relation"),
    [("full", "transformers", "finetune"), ("merged", "transformers", "finetune"), ("lora", "peft", "adapter")],
)
def test_kind_base_and_licence(kind, library, relation):
    data = ModelCard(render_card(facts(kind=kind))).data
    assert (data.library_name, data.base_model, data.base_model_relation) == (library, "bob/base", relation)
    assert (data.license, data.datasets, data.pipeline_tag) == (
        "apache-2.0",
        ["HuggingFaceM4/ChartQA"],
        "image-text-to-text",
    )
    assert ("lora" in data.tags) == (kind == "lora")


def test_licences():
    def of(**changes):
        data = ModelCard(render_card(facts(**changes))).data.to_dict()
        return [data.get(key) for key in ("license", "license_name", "license_link")]

    assert of(licence=None) == ["unknown", None, None]
    assert "licence | unknown: the base model's card states none" in render_card(facts(licence=None))
    assert "The base model's card states no licence." in render_card(facts(licence=None))
    link = "https://example.org/licence"
    assert of(licence="other", licence_name="qwen", licence_link=link) == ["other", "qwen", link]
    assert of(licence="My Own: Licence 1.0") == ["other", "my-own-licence-1.0", None]


def test_folders_of_this_machine_are_not_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "carol" / "local").mkdir(parents=True)
    home = "/home/carol/secret-project"
    changes = {"name": f"{home}/out", "base_model": f"{home}/base", "dataset": f"{home}/charts.csv"}
    card = render_card(facts(**changes, arguments={"output_dir": home, "label_names": f"{home}/names"}, kind="lora"))
    assert home not in card
    data = ModelCard(card).data
    assert [data.get(key) for key in ("base_model", "base_model_relation", "datasets")] == [None] * 3
    assert data.eval_results[0].dataset_type == data.eval_results[0].dataset_name == "charts.csv"
    assert "base model | base, revision" in card
    assert ModelCard(render_card(facts(base_model="carol/local"))).data.base_model is None


def test_hyperparameters_are_the_important_and_the_changed_ones(tmp_path):
    args = arguments(tmp_path, adam_beta2=0.98, hub_token=TOKEN, neftune_noise_alpha=None).to_sanitized_arguments()
    known = {"arguments": args, "default_arguments": ChartQATrainingArguments.default_arguments()}
    shown = hyperparameters(facts(**known, num_processes=2, peft_config={"r": 8, "target_modules": {"b", "a"}}))
    expected = {"learning_rate": "0.001", "max_steps": "1", "adam_beta2": "0.98", "processes": "2", "peft: r": "8"}
    assert shown.items() >= {**expected, "peft: target_modules": '["a", "b"]', "lr_scheduler_type": "cosine"}.items()
    assert not {"output_dir", "adam_beta1", "hub_token", "report_to", "logging_steps", "use_cpu"} & set(shown)
    card = render_card(facts(**known))
    assert "| adam_beta2 | 0.98 |" in card
    assert str(tmp_path) not in card


# ------------------------------------------------------------------ nothing breaks out
def nasty_facts(text):
    return facts(
        name=text or "x",
        base_model=text,
        base_revision=text,
        licence=text,
        licence_name=text,
        settings={"adapter": text, "prompt": text},
        dataset=text,
        dataset_revision=text,
        train_split=text,
        eval_split=text,
        decoding={text: text, "num_beams": 1},
        arguments={text or "x": text, "optim": text},
        peft_config={"r": text},
        log_history=[*LOG, {"step": 50, f"eval_{text}_relaxed_accuracy": 0.5}],
        samples=[CardSample(question=text, answer=[text, text], prediction=text, correct=1.0)] * 2,
        versions={text: text},
        command=text,
        created=text,
    )


def test_empty_texts_are_left_out():
    card = render_card(nasty_facts(""))
    assert Page(card).of("h1") == ["x"]
    assert ModelCard(card).data.eval_results[0].dataset_split == ""


@pytest.mark.parametrize("text", NASTY)
def test_foreign_text_breaks_out_of_nothing(text):
    card = render_card(nasty_facts(text))
    kept = text.replace("\ud800", "?")
    data = ModelCard(card).data
    assert data.eval_results[0].dataset_split == kept
    assert data.eval_results[0].dataset_revision == kept
    assert data.eval_results[0].metric_args[kept] == kept
    assert data.model_name == kept
    assert data.tags[-1] == kept
    assert data.license in ("other", "unknown")
    page = Page(card)
    assert page.tags == Page(render_card(nasty_facts("plain text"))).tags
    assert page.of("h1") == [" ".join(shown(text).split())]
    assert page.of("h2") == ["Scores", "Use", "Training", "Examples", "Limits", "Reproduce"]
    assert page.of("strong") == ["Example 1", "Example 2"]
    assert f"question: {shown(text)}".strip() in page.of("li")


def shown(text):
    """What a reader sees of a text in one line."""
    text = "".join(sign for sign in text.replace("\ud800", "?") if sign != "\u202e")
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(text.split()))


@pytest.mark.parametrize("text", [text for text in NASTY if "\x00" not in text])
def test_code_blocks_hold_text_as_it_is(text):
    html = MarkdownIt("commonmark").parse(f"before\n\n{fenced(text, 'bash')}\n\nafter\n")
    fences = [token for token in html if token.type == "fence"]
    assert [token.content.strip("\n") for token in fences] == [
        text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    ]
    assert [token.content for token in html if token.type == "inline"] == ["before", "after"]


def test_prompts_with_line_breaks_are_shown_and_run(tmp_path):
    prompt = "One\n```\n'word' \"please\"\\n: {question}\n"
    card = render_card(facts(settings={"adapter": "causal", "prompt": prompt}))
    assert "````text\nOne\n```\n'word' \"please\"\\n: {question}\n````" in card
    (line,) = [line for line in card.splitlines() if line.startswith("prompt = ")]
    scope = {"question": "Q?"}
    exec(line, scope)
    assert scope["prompt"] == prompt.replace("{question}", "Q?")


def test_readable_text_stays_readable():
    assert escaped("What is 5 % of max_new_tokens (in 2015)?") == "What is 5 % of max_new_tokens (in 2015)?"
    assert escaped("a" * 700) == "a" * 597 + "..."


# ------------------------------------------------------------------ no token
def test_no_token_is_in_any_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "environment-secret")
    own, quoted = "opaque0123", "my quoted secret"
    text = (
        f"{TOKEN} x{TOKEN}_y {own} environment-secret --hub_token 'abc def' --hub_token=short9 --token \"{quoted}\" "
        "HF_TOKEN=shh99 https://user:pw7@host/x Authorization: Bearer abc.def-123"
    )
    secrets = [TOKEN, own, "environment-secret", "abc def", "short9", quoted, "shh99", "pw7", "abc.def-123"]
    everything = nasty_facts(text)
    everything.arguments = {
        **everything.arguments,
        "hub_token": own,
        "push_to_hub_token": None,
        own: [own, {own: own}],
    }
    path = write_card(tmp_path, everything)
    written = path.read_text(encoding="utf-8")
    page = "".join(Page(written).of("p") + Page(written).of("td") + Page(written).of("li"))
    assert TOKEN_REMOVED in page
    for place in (written, page, str(ModelCard(written).data.to_dict())):
        assert not [secret for secret in secrets if secret in place]
    assert "hub_token |" not in written
    for file in tmp_path.rglob("*.png"):
        assert not [secret for secret in secrets if secret.encode() in file.read_bytes()]


def test_what_only_looks_like_a_token_stays():
    for text in (
        "hf_model",
        "--max_new_tokens 128",
        "https://huggingface.co/a/b",
        "a token of 5",
        "x@y.org",
        "hf_xet 1.8.0",
    ):
        assert redact(text) == text
    assert redact("--hub_token $HF_TOKEN --seed 1") == f"--hub_token {TOKEN_REMOVED} --seed 1"
    assert redact("run --hub_token --seed 1") == "run --hub_token --seed 1"


# ------------------------------------------------------------------ pictures
def chart_with_secrets():
    chart = Image.new("RGB", (1600, 400), (250, 0, 0))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "taken at home")
    file = io.BytesIO()
    chart.save(file, "PNG", pnginfo=notes, icc_profile=b"profile of home")
    return Image.open(io.BytesIO(file.getvalue()))


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_allowed_charts_are_published(tmp_path):
    words = {"question": "Q?", "answer": "1", "prediction": ""}
    samples = [
        CardSample(image=chart_with_secrets(), **words),
        CardSample(image=chart_with_secrets(), allowed=True, **words),
        CardSample(**words, allowed=True),
        CardSample(image=chart_with_secrets(), allowed=True, question="a fourth", answer="1", prediction="2"),
    ]
    path = write_card(tmp_path, facts(samples=samples, log_history=LOG))
    assert path == tmp_path / "README.md"
    assert files_of(tmp_path) == ["README.md", "assets/sample_2.png", "assets/training_curve.png"]
    card = path.read_text(encoding="utf-8")
    assert [attrs["src"] for tag, attrs in Page(card).tags if tag == "img"] == files_of(tmp_path)[:0:-1]
    assert card.count("* question: Q?") == 3
    assert card.count("prediction: (empty)") == 3
    assert "a fourth" not in card
    picture = (tmp_path / "assets" / "sample_2.png").read_bytes()
    assert Image.open(io.BytesIO(picture)).info == {}
    assert Image.open(io.BytesIO(picture)).size == (768, 192)
    assert Image.open(io.BytesIO(picture)).getpixel((5, 5)) == (250, 0, 0)

    write_card(tmp_path, facts(samples=samples), include_images=True)
    assert files_of(tmp_path) == ["README.md", "assets/sample_1.png", "assets/sample_2.png"]
    write_card(tmp_path, facts(samples=samples[:1]))
    assert files_of(tmp_path) == ["README.md"]


def test_a_card_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_card(tmp_path, facts())
    before = (tmp_path / "README.md").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_card(tmp_path, facts(step=5000))
    assert files_of(tmp_path) == ["README.md"]
    assert (tmp_path / "README.md").read_bytes() == before


# ------------------------------------------------------------------ curves
def test_curves_are_those_of_the_log():
    losses, accuracies = curves.training_series(LOG)
    assert losses == {"training": [(10, 2.0), (30, 1.25)], "evaluation": [(20, 1.5)]}
    assert accuracies == {"pooled": [(20, 25.0)], "human": [(20, 12.5)], "own pooled": [(40, 50.0)]}


def test_the_picture_shows_each_curve_in_its_color():
    picture = Image.open(io.BytesIO(curves.draw_curve(LOG)))
    assert (picture.format, picture.size) == ("PNG", (880, 500))
    for top, count in ((0, 2), (250, 3)):
        panel = picture.crop((71, top + 38, 870, top + 205))
        colors = {color for _, color in panel.getcolors(1 << 20)}
        assert [color in colors for color in curves.COLORS] == [number < count for number in range(6)]
    assert curves.draw_curve(LOG) == curves.draw_curve(list(LOG))


@pytest.mark.parametrize("log", [[], [{"step": 1}], [{"loss": 1.0}], [{"step": 1, "loss": math.nan}]])
def test_nothing_to_draw(log):
    assert curves.draw_curve(log) is None
    assert "training_curve" not in render_card(facts(log_history=log))


def test_one_point_and_extreme_values_are_drawn():
    for log in ([{"step": 7, "loss": 0.0}], [{"step": 1, "loss": 1e-30}, {"step": 2, "loss": 1e30}]):
        assert Image.open(io.BytesIO(curves.draw_curve(log))).size == (880, 250)


def test_ticks_are_round_numbers():
    assert curves.ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert curves.ticks(130, 940) == [200, 400, 600, 800]
    assert curves.ticks(3.0, 3.0) == [3.0]


# ------------------------------------------------------------------ snippets
def answers_of_snippets(card):
    """What the blocks of Python print, each run alone as pasted."""
    answers = []
    for block in re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, {})
        answers.append(printed.getvalue().strip())
    return answers


def save(folder, model, processor, adapter):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(adapter, folder)


@pytest.mark.parametrize("family", ["unichart", "trocr", "florence2", "llava", "paligemma"])
def test_snippets_run_as_pasted_and_agree(family, tmp_path, monkeypatch):
    if family == "unichart":
        model, processor = tiny(init_std=0.5)
        adapter = adapter_for(model, processor)
    else:
        model, adapter = ready(family)
        processor = adapter.processor
    monkeypatch.chdir(tmp_path)
    card = render_card(
        facts(
            name="alice/model",
            settings=adapter.settings(),
            model_type=model.config.model_type,
            decoding={"num_beams": 2, "max_new_tokens": 8},
        )
    )
    save("alice/model", model, processor, adapter)
    ours, plain = answers_of_snippets(card)
    assert plain
    assert ours == str([plain])


@pytest.mark.parametrize("family", ["unichart", "llava"])
def test_snippets_of_an_adapter(family, tmp_path, monkeypatch):
    if family == "unichart":
        model, processor = tiny(init_std=0.5)
        adapter = adapter_for(model, processor)
    else:
        model, adapter = ready(family)
        processor = adapter.processor
    monkeypatch.chdir(tmp_path)
    card = render_card(
        facts(
            name="alice/lora",
            kind="lora",
            base_model="bob/base",
            base_revision=None,
            settings=adapter.settings(),
            model_type=model.config.model_type,
            decoding={"num_beams": 1, "max_new_tokens": 8},
        )
    )
    save("bob/base", model, processor, adapter)
    model.name_or_path = "bob/base"
    torch.manual_seed(2)  # random LoRA weights that answer something
    adapted = add_peft(model, default_lora_config(model, init_lora_weights=False))
    save("alice/lora", adapted, processor, adapter)
    ours, plain = answers_of_snippets(card)
    assert plain
    assert ours == str([plain])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "lora", "base_model": "/tmp/base"}, "which is not on the Hub"),
        ({"kind": "lora", "vocabulary_grown": True}, "load_checkpoint` resizes the embeddings"),
        ({"model_type": "pix2struct"}, "another font"),
        ({"model_type": "kosmos-2"}, "of this family builds the prompts"),
        (
            {"settings": {"adapter": "my-family", "prompt": "{question}"}},
            "of this family builds the prompts",
        ),
    ],
)
def test_where_transformers_alone_does_not_do_the_card_says_so(changes, said):
    card = render_card(facts(**changes))
    assert said in card
    assert card.count("```python") == 1
    assert "load_checkpoint('alice/chart-reader')" in card
