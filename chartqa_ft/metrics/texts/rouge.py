"""ROUGE as rouge_score computes it, and a tokenizer for scripts other than the Latin one.

Reference
    Lin 2004, ROUGE: a package for automatic evaluation of summaries.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from .packages import explain_missing

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
TOKENIZERS = ("rouge_score", "unicode")
"""The names of the tokenizers of ROUGE."""

# Scripts without spaces between words, as parts of the names of their letters.
_UNSPACED = ("CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")


class UnicodeTokenizer:
    """A tokenizer with the interface that `rouge_score` asks for: words in any script.

    Letters, digits and combining marks make words, ignoring case; all other characters divide them. In scripts without
    spaces between words, such as Chinese, Japanese and Thai, every letter is a word, as is usual for ROUGE there. Of
    texts in ASCII the tokens are those of `rouge_score`.
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text.

        Example:
            >>> UnicodeTokenizer().tokenize("Größe: 1,5 m"), UnicodeTokenizer().tokenize("销售额 2019")
            (['grösse', '1', '5', 'm'], ['销', '售', '额', '2019'])
        """
        words: list[str] = []
        last = "other"  # the kind of the character before, marks left out
        for char in unicodedata.normalize("NFKC", text).casefold():
            kind = _kind(char)
            if kind == "mark":
                if last != "other":
                    words[-1] += char
                continue
            if kind == "word" and last == "word":
                words[-1] += char
            elif kind != "other":
                words.append(char)
            last = kind
        return words


@lru_cache(maxsize=1 << 14)
def _kind(char: str) -> str:
    category = unicodedata.category(char)[0]
    if category == "M":
        return "mark"
    if category not in "LN":
        return "other"
    return "alone" if unicodedata.name(char, "").startswith(_UNSPACED) else "word"


def rouge_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str
) -> list[dict[str, float]]:
    """Return the F1 of each prediction for the reference that suits it best, by kind of ROUGE.

    Args:
        predictions: n texts.
        references: the accepted texts of each, at least one.
        tokenizer: a name from `TOKENIZERS`.

    Raises:
        ImportError: rouge_score is not installed.

    Example:
        >>> rouge_scores(["sales rose"], [["sales fell", "prices"]], "rouge_score")[0]["rouge1"]
        0.5
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        explain_missing(error)
    # split_summaries=True would download a model of sentences: rougeLsum takes lines for sentences instead.
    scorer = RougeScorer(list(KINDS), tokenizer=UnicodeTokenizer() if tokenizer == "unicode" else None)
    found = []
    for prediction, accepted in zip(predictions, references, strict=True):
        scores = scorer.score_multi(list(accepted), prediction)
        found.append({kind: float(scores[kind].fmeasure) for kind in KINDS})
    return found


def rouge_signature(tokenizer: str) -> str:
    """Return what ROUGE was computed with, in the form of sacrebleu's signatures.

    Example:
        >>> rouge_signature("unicode").split("|")[:2]
        ['tok:unicode', 'stem:no']
    """
    from importlib.metadata import version

    return f"tok:{tokenizer}|stem:no|version:{version('rouge_score')}"


def share_of_foreign_letters(text: str) -> float:
    """Return the share of the letters in a text that the tokenizer of `rouge_score` drops.

    Example:
        >>> share_of_foreign_letters("Umsatz"), share_of_foreign_letters("销售额"), share_of_foreign_letters("2019")
        (0.0, 1.0, 0.0)
    """
    letters = [char for char in text if char.isalpha()]
    return sum(not char.isascii() for char in letters) / len(letters) if letters else 0.0
