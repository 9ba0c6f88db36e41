"""The 5 % rule: variants of ChartQA's relaxed correctness, as pure functions of two strings.

Public scorers all report "relaxed accuracy", but disagree on percent signs, commas, spaces, lists, zero and years, and
on which of the two numbers the 5 % refers to. Each function here reproduces one of them and is tested against recorded
verdicts of the original. The rule they share is from Masry et al. 2022 (arXiv:2203.10244, section 5.1) after Methani
et al. 2020: if both answers are numbers, `abs(p - t) / abs(t) <= 0.05`; otherwise equality ignoring case.

The quotient is written in exactly this form on purpose. Whether 105 is within 5 % of 100 (yes) and 1.05 within 5 % of
1 (no) is an accident of binary rounding that published numbers contain; `math.isclose`, `0.95 * t <= p <= 1.05 * t`
or decimal arithmetic change hundreds of such verdicts.

No function here raises for any pair of strings, and none runs code from a label.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import lru_cache, partial

from .answers import LONGEST_CACHED, as_text, to_list, to_number
from .chartqapro import chartqapro, chartqapro_official
from .entries import prediction_text, target_texts, truth
from .notation import DETECTED, drop_thousands_commas, to_point
from .tolerance import TOLERANCE, within_tolerance

# Labels that strict_year takes for a calendar year. Charts range from early statistics to projections for 2100;
# four-digit labels outside (1342 million dollars, 4803 employees) are amounts, where the tolerance is meant to apply.
FIRST_YEAR, LAST_YEAR = 1800, 2100


def pix2struct(prediction: str, target: str) -> float:
    """Score like google-research/pix2struct, lmms-eval, DocOwl, Molmo and evalscope (the default).

    Nothing is stripped. A target of zero has no relative error and is compared as text, so `0.0` is wrong for `0`.

    Example:
        >>> pix2struct("104", "100"), pix2struct("50%", "0.5"), pix2struct("0.0", "0")
        (1.0, 1.0, 0.0)
    """
    p = to_number(prediction)
    t = to_number(target)
    if p is not None and t:
        return 1.0 if within_tolerance(p, t) else 0.0
    return 1.0 if prediction.lower() == target.lower() else 0.0


def unichart(prediction: str, target: str) -> float:
    """Score like vis-nlp/UniChart, ChartGemma and ChartInstruct: no percent rule, and zero is compared as a number.

    Example:
        >>> unichart("0.0", "0"), unichart("50%", "0.5")
        (1.0, 0.0)
    """
    try:
        t = float(target)
        p = float(prediction)
    except ValueError:
        # One side may be a number; two texts are only equal here if neither is.
        return 1.0 if prediction.lower() == target.lower() else 0.0
    if t == 0.0:
        # The reference divides, fails and compares the printed floats: -0.0 is not 0.0.
        return 1.0 if str(p) == str(t) else 0.0
    return 1.0 if within_tolerance(p, t) else 0.0


@lru_cache(maxsize=1 << 12)
def _alternatives(label: str) -> tuple[str, ...]:
    """Return the items of a label that is a Python list, else the label (also for `[]`: the original crashes)."""
    items = to_list(label)
    return tuple(as_text(item) for item in items) if items else (label,)


def vlmevalkit(prediction: str, target: str) -> float:
    """Score like VLMEvalKit since 2025-09-01: the prediction is stripped, and the items of a label that is a list are
    accepted answers.

    Example:
        >>> vlmevalkit(" 2003 ", "[2003, 2004]")
        1.0
    """
    prediction = prediction.strip()
    return max(pix2struct(prediction, item) for item in _alternatives(target))


def swapped(prediction: str, target: str) -> float:
    """Score like Qwen-VL and InternVL, which swap the arguments: 5 % of the prediction. Only to reproduce old numbers.

    Example:
        >>> swapped("105.2", "100"), pix2struct("105.2", "100")
        (1.0, 0.0)
    """
    return pix2struct(target, prediction.strip())


def vlmevalkit_legacy(prediction: str, target: str) -> float:
    """Score like VLMEvalKit from 2024-01-29 to 2025-09-01: `swapped`, with lists of accepted answers.

    Example:
        >>> vlmevalkit_legacy("105.2", "[100, 200]")
        1.0
    """
    prediction = prediction.strip()
    return max(pix2struct(item, prediction) for item in _alternatives(target))


def strict_year(prediction: str, target: str) -> float:
    """Score like `pix2struct`, but require years (integer labels from 1800 to 2100, without `%`) to match exactly.

    5 % of a year is a century: under the other variants any guess between 1911 and 2111 is right for 2011.

    Example:
        >>> strict_year("2010", "2011"), pix2struct("2010", "2011")
        (0.0, 1.0)
    """
    t = to_number(target)
    if t is not None and FIRST_YEAR <= t <= LAST_YEAR and t.is_integer() and not target.endswith("%"):
        p = to_number(prediction)
        return 1.0 if p == t else 0.0
    return pix2struct(prediction, target)


def exact_match(prediction: str, target: str) -> float:
    """Score equality ignoring case. Numbers get no tolerance, and nothing is stripped.

    Example:
        >>> exact_match("yes", "Yes"), exact_match("10.0", "10")
        (1.0, 0.0)
    """
    return 1.0 if prediction.lower() == target.lower() else 0.0


def _lenient_form(text: str) -> tuple[str, float | None, bool]:
    """Return the cleaned text, its number (in percentage points if it ends in `%`) and whether it ends in `%`."""
    if any(char.isdigit() for char in text):
        end = len(text)
        while end and text[end - 1] != "%" and (text[end - 1] in string.punctuation or text[end - 1].isspace()):
            end -= 1
        text = drop_thousands_commas(text[:end]).replace("$", "")
    elif text[:1] == text[-1:] and text[:1] in ('"', "'"):
        text = text[1:-1]
    bare = text.strip()
    percent = bare.endswith("%")
    try:
        return text, float(bare.rstrip("%")), percent
    except ValueError:
        return text, None, False


_cached_lenient_form = lru_cache(maxsize=1 << 16)(_lenient_form)


def _close(prediction: float, target: float) -> bool:
    return abs(prediction - target) / max(abs(target), 1e-10) <= TOLERANCE


def lenient(prediction: str, target: str) -> float:
    """Score like lm-evaluation-harness (without its search for "answer:"), which ignores commas, `$`, `%` and final
    punctuation.

    Texts with a digit lose trailing punctuation and white space, `$` and commas; other texts lose a pair of quotes. A
    comma that may be a decimal comma stays, so that `126` is wrong for `12,5` (the original deletes every comma). A
    percent sign on either side may mean percentage points or a hundredth. A single-letter target matches any text that
    starts with it (multiple choice). Trailing punctuation is dropped from predicted texts, not from target texts.

    Example:
        >>> lenient("$1,000.", "1000"), lenient("12%", "12")
        (1.0, 1.0)
    """
    clean_p, p, p_percent = (_cached_lenient_form if len(prediction) <= LONGEST_CACHED else _lenient_form)(prediction)
    clean_t, t, t_percent = (_cached_lenient_form if len(target) <= LONGEST_CACHED else _lenient_form)(target)
    if p is not None and t is not None:
        return float(_close(p, t) or (p_percent and _close(p / 100, t)) or (t_percent and _close(p, t / 100)))
    if len(clean_t) == 1 and clean_t.isalpha() and clean_p:
        return 1.0 if clean_p[0].lower() == clean_t.lower() else 0.0
    return 1.0 if clean_p.rstrip(string.punctuation).lower() == clean_t.lower() else 0.0


def decimal_comma(prediction: str, target: str) -> float:
    """Score like `pix2struct`, with numbers in decimal comma notation: `1.204,50` is 1204.5, and `1.204` is 1204.

    Numbers in other notations are texts: `12.5` is wrong for `12,5`. See `notation.to_point`.

    Example:
        >>> decimal_comma("1.250", "1.204,50"), decimal_comma("126", "12,5")
        (1.0, 0.0)
    """
    p, t = to_point(prediction), to_point(target)
    if p is not None and t is not None:
        return pix2struct(p, t)
    return exact_match(prediction, target)


# ------------------------------------------------------------------ variants by name
VARIANTS: dict[str, Callable[..., float]] = {
    "pix2struct": pix2struct,
    "unichart": unichart,
    "vlmevalkit": vlmevalkit,
    "swapped": swapped,
    "vlmevalkit_legacy": vlmevalkit_legacy,
    "lenient": lenient,
    "strict_year": strict_year,
    "exact_match": exact_match,
    "decimal_comma": decimal_comma,
    "chartqapro": chartqapro,
    "chartqapro_official": chartqapro_official,
}
FLAGGED = frozenset({"chartqapro", "chartqapro_official"})
"""The variants that take `year_flags` and `exact`."""
ALIASES = {"relaxed": "pix2struct", "lmms_eval": "pix2struct", "qwen_vl": "swapped", "internvl": "swapped"}


def variant_name(variant: str) -> str:
    """Return the canonical name of a variant or alias.

    Raises:
        ValueError: the variant is unknown; the message names the known ones.

    Example:
        >>> variant_name("relaxed"), variant_name("unichart")
        ('pix2struct', 'unichart')
    """
    name = ALIASES.get(variant, variant) if isinstance(variant, str) else variant
    if not isinstance(name, str) or name not in (*VARIANTS, DETECTED):
        known = ", ".join([*VARIANTS, DETECTED, *(f"{alias} (= {name})" for alias, name in ALIASES.items())])
        raise ValueError(f"unknown variant {variant!r} of relaxed accuracy; known are {known}")
    return name


def relaxed_correctness(
    *,
    prediction: object,
    target: object,
    variant: str = "pix2struct",
    year_flags: object = None,
    exact: bool = False,
) -> float:
    """Return whether `prediction` is a right answer if `target` is the label.

    Args:
        prediction: a string; numbers, dates and None are scored as `str(prediction)`. The default variant does not
            strip white space: strip model output beforehand.
        target: a string, number or date likewise, or a list, tuple, set or array of accepted answers, of which the
            best one counts.
        variant: `pix2struct` (aliases `relaxed`, `lmms_eval`), `unichart`, `vlmevalkit`, `swapped` (aliases `qwen_vl`,
            `internvl`), `vlmevalkit_legacy`, `lenient`, `strict_year`, `exact_match`, `decimal_comma`,
            `chartqapro` or `chartqapro_official`: see the functions of these names.
        year_flags, exact: see `chartqapro`; the other variants ignore them.

    Returns:
        1.0 or 0.0; the variants of ChartQAPro give any float between them.

    Raises:
        ValueError: the variant is unknown, or the target is None, NaN or an empty list. Never because of a string.
        TypeError: the prediction or the target is of another type, such as bytes, a dict or a nested list.

    Example:
        >>> relaxed_correctness(prediction="104", target="100")
        1.0
        >>> relaxed_correctness(prediction="Peru", target=["Chile", "peru"])
        1.0
    """
    text, targets = prediction_text(prediction, "prediction"), target_texts(target, "target")
    return best_score(text, targets, scorer_of(variant, year_flags, truth("exact", exact)))


def scorer_of(variant: str, year_flags: object = None, exact: bool = False) -> Callable[[str, str], float]:
    """Return the function of a variant, with the options of ChartQAPro's set.

    Raises:
        ValueError: the variant is unknown.

    Example:
        >>> scorer_of("relaxed")("104", "100")
        1.0
    """
    name = variant_name(variant)
    if name == DETECTED:
        raise ValueError(
            f"{DETECTED} needs the labels of a whole data set, as relaxed_accuracy gets them: for one answer name the "
            "notation by variant='decimal_comma' or 'pix2struct'"
        )
    return partial(VARIANTS[name], year_flags=year_flags, exact=exact) if name in FLAGGED else VARIANTS[name]


def best_score(prediction: str, targets: str | list[str], scorer: Callable[[str, str], float]) -> float:
    """Return the score of a prediction for the accepted answer that suits it best; 0.0 if there is none.

    Example:
        >>> best_score("peru", ["Chile", "Peru"], exact_match)
        1.0
    """
    if isinstance(targets, str):
        return scorer(prediction, targets)
    return max((scorer(prediction, target) for target in targets), default=0.0)
