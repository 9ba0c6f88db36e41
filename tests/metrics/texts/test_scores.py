"""BLEU and ROUGE of texts: the numbers of the libraries, and what is ours around them."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

import chartqa_ft
from chartqa_ft import text_scores
from chartqa_ft.metrics import TEXT_VARIANTS, per_example_text_scores
from chartqa_ft.metrics.texts.bleu import bleu_of_sums, corpus_bleu, sentence_statistics
from chartqa_ft.metrics.texts.scores import LONGEST_TEXT

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
PREDICTIONS = [
    "This statistic shows the number of cinemas in Peru from 2010 to 2020.",
    "In 2019 , sales rose to 1.5 million units .\nThey fell afterwards .",
    "The Share of adults who use Twitter was 23 % .",
    "",
]
REFERENCES = [
    "The statistic shows the number of cinemas in Chile from 2010 to 2020.",
    "Afterwards they fell .\nIn 2019 , sales rose to 1.6 million units .",
    "the share of adults who use twitter was 23 % in 2021 .",
    "Prices fell.",
]


# ------------------------------------------------------------------ the numbers of the libraries
@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("default", {}),
        ("lowercase", {"lowercase": True}),
        ("moses", {"tokenize": "none", "smooth_method": "none"}),
        ("international", {"tokenize": "intl"}),
        ("chinese", {"tokenize": "zh"}),
        ("characters", {"tokenize": "char"}),
    ],
)
def test_bleu_is_that_of_sacrebleu(variant: str, settings: dict) -> None:
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], force=True, **settings)
    found = text_scores(PREDICTIONS, REFERENCES, variant=variant, n_resamples=0)
    assert found["bleu"] == expected.score / 100
    assert found["length_ratio"] == expected.sys_len / expected.ref_len
    assert 0 < found["bleu"] < 1


def test_the_variants_differ() -> None:
    found = {name: text_scores(PREDICTIONS, REFERENCES, variant=name, n_resamples=0)["bleu"] for name in TEXT_VARIANTS}
    assert found["international"] == found["chinese"]  # there is no Chinese in these texts
    assert len(set(found.values())) == len(found) - 1
    assert found["lowercase"] > found["default"]
    assert found["moses_lowercase"] > found["moses"]


def _multi_bleu(predictions: list[str], references: list[list[str]]) -> float:
    """BLEU as Papineni et al. define it, on white space, as multi-bleu.perl computes it."""
    counts = np.zeros((2, 4))
    lengths = np.zeros(2)
    for prediction, accepted in zip(predictions, references, strict=True):
        words, targets = prediction.split(), [text.split() for text in accepted]
        lengths += len(words), min((abs(len(one) - len(words)), len(one)) for one in targets)[1]
        for n in range(1, 5):

            def grams(tokens: list[str], n: int = n) -> Counter:
                return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

            most: Counter = Counter()
            for one in targets:
                most |= grams(one)
            counts[:, n - 1] += (grams(words) & most).total(), grams(words).total()
    if not counts.all():
        return 0.0
    brevity = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    return brevity * math.exp(np.log(counts[0] / counts[1]).mean())


@pytest.mark.parametrize("lower", [False, True])
def test_moses_is_multi_bleu(lower: bool) -> None:
    references = [[text] for text in REFERENCES]
    references[0].append("Cinemas in Peru from 2010 to 2020.")
    found = text_scores(PREDICTIONS, references, variant="moses_lowercase" if lower else "moses", n_resamples=0)
    fold = str.lower if lower else str
    expected = _multi_bleu(list(map(fold, PREDICTIONS)), [list(map(fold, texts)) for texts in references])
    assert found["bleu"] == pytest.approx(expected, abs=1e-14)
    # without smoothing, a corpus without a common sequence of four words scores 0
    assert text_scores(["a b c"], ["a b d"], variant="moses", n_resamples=0)["bleu"] == 0.0


def test_rouge_is_that_of_rouge_score() -> None:
    scorer = RougeScorer(list(KINDS))
    each = [scorer.score(target, text) for target, text in zip(REFERENCES, PREDICTIONS, strict=True)]
    found = text_scores(PREDICTIONS, REFERENCES, n_resamples=0)
    singly = per_example_text_scores(PREDICTIONS, REFERENCES)
    for kind in KINDS:
        assert found[kind] == sum(one[kind].fmeasure for one in each) / 4
        assert [one[kind] for one in singly] == [one[kind].fmeasure for one in each]
    # lines are sentences for rougeLsum, which may come in any order
    assert singly[1]["rougeLsum"] > singly[1]["rougeL"]


def test_single_texts_are_scored_by_the_bleu_of_sentences() -> None:
    found = per_example_text_scores(PREDICTIONS, REFERENCES)
    expected = [
        sacrebleu.sentence_bleu(text, [target], use_effective_order=True).score / 100
        for text, target in zip(PREDICTIONS, REFERENCES, strict=True)
    ]
    assert [one["bleu"] for one in found] == expected
    assert [one["length_ratio"] for one in found] == [1.0, 1.0, 11 / 13, 0.0]
    assert per_example_text_scores([], []) == []
    assert per_example_text_scores(["a"], [""])[0]["length_ratio"] == 0.0


def test_of_accepted_texts_the_best_one_counts() -> None:
    references = [["Sales fell.", "Sales rose."], ["Prices fell."]]
    found = text_scores(["Sales rose.", "Prices fell."], references, n_resamples=0)
    expected = sacrebleu.corpus_bleu(["Sales rose.", "Prices fell."], [["Sales rose.", "Prices fell."]]).score / 100
    assert found["bleu"] == expected
    assert [found[name] for name in KINDS] == [1.0, 1.0, 1.0, 1.0]
    assert found["bleu_signature"].startswith("nrefs:var|")


def test_signatures_name_settings_and_versions() -> None:
    found = text_scores(["a b c d"], ["a b c d"], variant="moses_lowercase", tokenizer="unicode", n_resamples=0)
    assert found["bleu_signature"] == f"nrefs:1|case:lc|eff:no|tok:none|smooth:none|version:{sacrebleu.__version__}"
    assert found["rouge_signature"].startswith("tok:unicode|stem:no|version:")
    assert (found["bleu"], found["n"]) == (1.0, 1)
    assert [name for name in found if name.endswith(("low", "high", "confidence"))] == []


# ------------------------------------------------------------------ intervals
def test_statistics_of_single_texts_add_up_to_the_corpus() -> None:
    references = [[text] for text in REFERENCES]
    for variant in TEXT_VARIANTS:
        statistics, _ = sentence_statistics(PREDICTIONS, references, variant)
        assert bleu_of_sums(statistics.sum(0)[None], variant)[0] == corpus_bleu(PREDICTIONS, references, variant)[0]


def test_intervals_are_percentiles_of_resampled_texts() -> None:
    found = text_scores(PREDICTIONS, REFERENCES, n_resamples=400, confidence=0.8, seed=3)
    counts = np.random.default_rng(3).multinomial(4, [1 / 4] * 4, size=400)
    resampled = [np.repeat(np.arange(4), row) for row in counts]
    bleu = [
        sacrebleu.corpus_bleu([PREDICTIONS[i] for i in rows], [[REFERENCES[i] for i in rows]], force=True).score / 100
        for rows in resampled
    ]
    assert (found["bleu_ci_low"], found["bleu_ci_high"]) == pytest.approx(tuple(np.quantile(bleu, [0.1, 0.9])))
    singly = [one["rouge2"] for one in per_example_text_scores(PREDICTIONS, REFERENCES)]
    means = [np.mean([singly[i] for i in rows]) for rows in resampled]
    assert (found["rouge2_ci_low"], found["rouge2_ci_high"]) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))
    assert found["length_ratio_ci_low"] <= found["length_ratio"] <= found["length_ratio_ci_high"]
    assert found["confidence"] == 0.8
    assert text_scores(PREDICTIONS, REFERENCES, n_resamples=400, confidence=0.8, seed=3) == found


# ------------------------------------------------------------------ other scripts, hostile and wrong input
def test_other_scripts_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = text_scores(["销售额上升", "Sales"], ["销售额下降", "Sales"], n_resamples=0)
        assert found["rouge1"] == 0.5
        assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
            "most letters of 1 of 2 references are no words for ROUGE"
        ]
        caplog.clear()
        again = text_scores(["销售额上升"], ["销售额下降"], tokenizer="unicode", variant="chinese", n_resamples=0)
        assert again["rouge1"] == 0.6
        assert 0 < again["bleu"] < 1
        assert not caplog.records


def test_a_runaway_text_is_cut() -> None:
    endless = "a " * LONGEST_TEXT
    assert text_scores([endless], ["a b"], n_resamples=0)["length_ratio"] == LONGEST_TEXT / 2 / 2


def test_texts_that_share_nothing_score_0() -> None:
    found = text_scores([""], ["Prices fell."], n_resamples=2)
    assert all(value == 0.0 for name, value in found.items() if name.startswith(("bleu_ci", "rouge1", "length")))
    assert text_scores(["Prices"], [""], n_resamples=2)["length_ratio_ci_high"] == 0.0


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: text_scores([], []), ValueError, "there are no texts"),
        (lambda: text_scores(["a"], []), ValueError, "1 predictions and 0 references"),
        (lambda: text_scores("a", ["a"]), TypeError, "predictions must be a list"),
        (lambda: text_scores(["a"], [None]), ValueError, r"references\[0\]"),
        (lambda: text_scores(["a"], [[]]), ValueError, r"references\[0\]"),
        (lambda: text_scores([b"a"], ["a"]), TypeError, r"predictions\[0\]"),
        (lambda: text_scores(["a"], ["a"], variant="multi-bleu"), ValueError, "'moses_lowercase'"),
        (lambda: text_scores(["a"], ["a"], tokenizer=None), ValueError, "'unicode'"),
        (lambda: text_scores(["a"], ["a"], n_resamples=-1), ValueError, "n_resamples"),
        (lambda: text_scores(["a"], ["a"], confidence=95), ValueError, "confidence"),
        (lambda: per_example_text_scores(["a"], ["a"], variant=1), ValueError, "variant must be one of"),
    ],
)
def test_wrong_arguments_are_named(call, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize("name", ["sacrebleu", "rouge_score"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [one for one in sys.modules if one.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'chartqa_ft\[text\]'") as caught:
        text_scores(["a"], ["a"])
    assert caught.value.name.split(".")[0] == name


def test_the_packages_are_imported_where_they_are_used() -> None:
    code = "import sys, chartqa_ft.metrics; print({'sacrebleu', 'rouge_score', 'nltk'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
    assert "text_scores" in chartqa_ft.__all__
