"""The text of a card and its files: nothing breaks out, no token, no chart that may not be published."""

from __future__ import annotations

import io
import os

import pytest
from huggingface_hub import ModelCard
from PIL import Image, PngImagePlugin

from chartqa_ft.hub import CardSample, read_card
from chartqa_ft.hub.card.render import render_card, write_card
from chartqa_ft.hub.card.rules import RULES
from chartqa_ft.hub.public import TOKEN_REMOVED
from chartqa_ft.metrics.correctness import VARIANTS
from chartqa_ft.metrics.notation import DETECTED

from .examples import LOG, NASTY, TOKEN, Page, facts, shown


def test_the_table_shows_percent_interval_and_n():
    card = render_card(facts())
    rows = ["human | 66.67 | 20.77 - 93.85 | 3", "augmented | 75.00 | 30.06 - 95.44 | 4", "pooled | 71.43 |"]
    assert all(f"\n| {row}" in card for row in rows)
    assert "95 % interval" in card
    assert "num_beams = 4, max_new_tokens = 128" in card


def test_without_scores_the_card_says_so():
    card = render_card(facts(metrics={}))
    assert "was not evaluated" in card
    assert "model-index" not in card
    assert read_card(card) == {}


def test_every_variant_has_a_rule():
    assert set(RULES) == {*VARIANTS, DETECTED}
    assert "variant pix2struct." in render_card(facts(metric_variant="relaxed"))
    with pytest.raises(ValueError, match="unknown variant"):
        render_card(facts(metric_variant="my own"))
    with pytest.raises(ValueError, match="kind must be one of"):
        render_card(facts(kind="half"))


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


def test_prompts_with_line_breaks_are_shown_and_run(tmp_path):
    prompt = "One\n```\n'word' \"please\"\\n: {question}\n"
    card = render_card(facts(settings={"adapter": "causal", "prompt": prompt}))
    assert "````text\nOne\n```\n'word' \"please\"\\n: {question}\n````" in card
    (line,) = [line for line in card.splitlines() if line.startswith("prompt = ")]
    scope = {"question": "Q?"}
    exec(line, scope)
    assert scope["prompt"] == prompt.replace("{question}", "Q?")


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
