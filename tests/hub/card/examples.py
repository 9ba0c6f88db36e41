"""Facts, scores and hostile texts for cards, and a rendered card to look into."""

from __future__ import annotations

import math
from html.parser import HTMLParser

from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from chartqa_ft.hub import CardFacts
from chartqa_ft.metrics.accuracy import relaxed_accuracy

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


def shown(text):
    """What a reader sees of a text in one line."""
    text = "".join(sign for sign in text.replace("\ud800", "?") if sign != "\u202e")
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(text.split()))
