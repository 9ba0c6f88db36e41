"""When is one answer right? The named definitions of ChartQA's relaxed correctness, as pure functions of two strings.

Every public scorer calls its figure "relaxed accuracy", and they disagree on percent signs, commas, spaces, lists,
zero and years, and on which of the two numbers the 5 % is taken of. Each function here reproduces one of them and is
parity-tested on recorded verdicts of the original. The rule they share, from Masry et al. 2022 (arXiv:2203.10244,
section 5.1) after Methani et al. 2020: if both answers read as numbers, `abs(p - t) / abs(t) <= 0.05`; otherwise
equality without case.

The quotient is written in exactly that form on purpose. Whether 105 is within 5 % of 100 (yes) and 1.05 within 5 % of
1 (no) is an accident of binary rounding that published numbers contain; `math.isclose`, `0.95 * t <= p <= 1.05 * t`
or decimal arithmetic change hundreds of such verdicts.

No function here raises on any pair of strings, none runs code from a label (`ast.literal_eval` only).
"""

from __future__ import annotations

import ast
import re
import string
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache, partial

TOLERANCE = 0.05
# Labels that strict_year takes as a calendar year. Charts reach from early statistics to projections for 2100;
# four-digit labels outside (1342 million dollars, 4803 employees) are amounts, where the tolerance is meant to apply.
FIRST_YEAR, LAST_YEAR = 1800, 2100
# A degenerate generation may be megabytes of brackets; no answer that is a list is this long.
_LONGEST_LITERAL = 20_000
# Long texts are almost never repeated: caching them costs memory and wins nothing.
_LONGEST_CACHED = 64
_MISSING = object()


def as_text(value: object) -> str:
    """The string that is scored for `value`: itself, or `str(value)` for numbers and None (None becomes `"None"`)."""
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except ValueError:
        # Python refuses to print integers beyond sys.get_int_max_str_digits(); Decimal prints them exactly.
        return str(Decimal(value)) if isinstance(value, int) else object.__repr__(value)


def as_targets(reference: object) -> list[str]:
    """The accepted answers of one question as strings: a list, tuple, set or array gives each of its items."""
    if hasattr(reference, "tolist"):
        reference = reference.tolist()
    if isinstance(reference, (list, tuple, set, frozenset)):
        return [as_text(item) for item in reference]
    return [as_text(reference)]


def _parse_number(text: str) -> float | None:
    try:
        if text.endswith("%"):
            return float(text.rstrip("%")) / 100.0
        return float(text)
    except ValueError:
        return None


_cached_number = lru_cache(maxsize=1 << 16)(_parse_number)


def to_number(text: str) -> float | None:
    """`float(text)`, a hundredth of it when the text ends in `%` (all trailing `%` are dropped), None for other text.

    Python's float decides: surrounding white space, `1_000`, `1e3`, full-width digits, `nan` and `inf` are numbers,
    `1,000` and `$5` are not.
    """
    return _cached_number(text) if len(text) <= _LONGEST_CACHED else _parse_number(text)


def within_tolerance(prediction: float, target: float) -> bool:
    """`abs(p - t) / abs(t) <= 0.05` in float64; `target` must not be 0. False with any nan or infinity."""
    return abs(prediction - target) / abs(target) <= TOLERANCE


def pix2struct(prediction: str, target: str) -> float:
    """google-research/pix2struct, lmms-eval, DocOwl, Molmo, evalscope: the default. Nothing is stripped.

    A target of zero has no relative error and is compared as text, so `0.0` is wrong for `0`.
    """
    p = to_number(prediction)
    t = to_number(target)
    if p is not None and t:
        return 1.0 if within_tolerance(p, t) else 0.0
    return 1.0 if prediction.lower() == target.lower() else 0.0


def unichart(prediction: str, target: str) -> float:
    """vis-nlp/UniChart, ChartGemma, ChartInstruct: no percent rule, zero is compared as a number (`0.0` is `0`)."""
    try:
        t = float(target)
        p = float(prediction)
    except ValueError:
        # One side may have been a number already; two texts are only equal here if neither was.
        return 1.0 if prediction.lower() == target.lower() else 0.0
    if t == 0.0:
        # The reference divides, fails and compares the printed floats: -0.0 is not 0.0.
        return 1.0 if str(p) == str(t) else 0.0
    return 1.0 if within_tolerance(p, t) else 0.0


def literal(text: str) -> object:
    """The Python literal in `text`, or `_MISSING` if there is none. Never runs code, never raises."""
    if len(text) > _LONGEST_LITERAL:
        return _MISSING
    try:
        with warnings.catch_warnings():
            # "\d" in a label is a SyntaxWarning of the parser, which is no concern of the user's.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _MISSING


@lru_cache(maxsize=1 << 12)
def _alternatives(label: str) -> tuple[str, ...]:
    """The items of a label that is a Python list, else the label (also for `[]`, where the reference crashes)."""
    value = literal(label) if "[" in label else _MISSING
    return tuple(as_text(item) for item in value) if isinstance(value, list) and value else (label,)


def vlmevalkit(prediction: str, target: str) -> float:
    """VLMEvalKit since 2025-09-01: the prediction is stripped; a label like `[2003, 2004]` is a choice of answers."""
    prediction = prediction.strip()
    return max(pix2struct(prediction, item) for item in _alternatives(target))


def swapped(prediction: str, target: str) -> float:
    """Qwen-VL and InternVL: swapped arguments, so 5 % of the prediction. Only to reproduce old numbers."""
    return pix2struct(target, prediction.strip())


def vlmevalkit_legacy(prediction: str, target: str) -> float:
    """VLMEvalKit from 2024-01-29 to 2025-09-01: `swapped`, with its lists of alternatives."""
    prediction = prediction.strip()
    return max(pix2struct(item, prediction) for item in _alternatives(target))


def strict_year(prediction: str, target: str) -> float:
    """`pix2struct`, but a label that is a year (an integer from 1800 to 2100, without `%`) has to be met exactly.

    5 % of a year is a century: any guess between 1911 and 2111 is "right" for 2011 elsewhere.
    """
    t = to_number(target)
    if t is not None and FIRST_YEAR <= t <= LAST_YEAR and t.is_integer() and not target.endswith("%"):
        p = to_number(prediction)
        return 1.0 if p == t else 0.0
    return pix2struct(prediction, target)


def exact_match(prediction: str, target: str) -> float:
    """Equality of the texts without case; numbers get no tolerance and nothing is stripped."""
    return 1.0 if prediction.lower() == target.lower() else 0.0


def _lenient_form(text: str) -> tuple[str, float | None, bool]:
    """Cleaned text, its number (in percent points when it ends in `%`) and whether it ended in `%`."""
    if any(char.isdigit() for char in text):
        end = len(text)
        while end and text[end - 1] != "%" and (text[end - 1] in string.punctuation or text[end - 1].isspace()):
            end -= 1
        text = text[:end].replace(",", "").replace("$", "")
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
    """lm-evaluation-harness (without its search for "answer:"): commas, `$`, final punctuation and `%` are forgiven.

    Texts with a digit lose trailing punctuation and white space, commas and `$`; other texts lose a pair of quotes. A
    percent sign on either side may mean percent points or a hundredth. A single-letter target is met by any text that
    starts with it (multiple choice). Trailing punctuation is dropped from predicted texts, not from target texts.
    """
    clean_p, p, p_percent = (_cached_lenient_form if len(prediction) <= _LONGEST_CACHED else _lenient_form)(prediction)
    clean_t, t, t_percent = (_cached_lenient_form if len(target) <= _LONGEST_CACHED else _lenient_form)(target)
    if p is not None and t is not None:
        return float(_close(p, t) or (p_percent and _close(p / 100, t)) or (t_percent and _close(p, t / 100)))
    if len(clean_t) == 1 and clean_t.isalpha() and clean_p:
        return 1.0 if clean_p[0].lower() == clean_t.lower() else 0.0
    return 1.0 if clean_p.rstrip(string.punctuation).lower() == clean_t.lower() else 0.0


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance in code points, by the bit-parallel recurrence of Myers 1999 as simplified by Hyyrö 2003.

    One Python integer holds a whole column of the table (bit j: does the cell rise or fall against cell j - 1), so a
    degenerate answer of thousands of characters costs milliseconds, not seconds.
    """
    if not a or not b:
        return len(a) or len(b)
    positions: dict[str, int] = {}
    for j, char in enumerate(a):
        positions[char] = positions.get(char, 0) | 1 << j
    mask = (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    rises, falls, distance = mask, 0, len(a)
    for char in b:
        match = positions.get(char, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        right_rises = falls | (~(diagonal | rises) & mask)
        right_falls = diagonal & rises
        if right_rises & last:
            distance += 1
        elif right_falls & last:
            distance -= 1
        right_rises = right_rises << 1 | 1
        rises = (right_falls << 1 | ~(diagonal | right_rises)) & mask
        falls = diagonal & right_rises & mask
    return distance


def anls(prediction: str, target: str, *, threshold: float = 0.5) -> float:
    """Normalized Levenshtein similarity of two texts without case, runs of white space as one space; 0 below a half.

    `1 - d / n` if `d / n < threshold` else 0, with the edit distance d and n the length of the longer text (Biten et
    al. 2019, arXiv:1907.00490, eq. 1). Lengths count in upper case, as in the `anls` package: it matters for `ß`.
    """
    prediction = " ".join(prediction.lower().split())
    target = " ".join(target.lower().split())
    if prediction == target:
        return 1.0
    length = max(len(prediction.upper()), len(target.upper()))
    if abs(len(prediction) - len(target)) / length >= threshold:
        return 0.0  # that many insertions at least
    share = edit_distance(prediction, target) / length
    return 1 - share if share < threshold else 0.0


_BRACKETED = re.compile(r"\[(.*)\]")
_UNQUOTED_WORD = re.compile(r"(?<!['\w])\w['\w]*")


def _pro_items(text: str) -> list[str]:
    value = literal(text) if "[" in text else _MISSING
    return [as_text(item).strip(" '") for item in value] if isinstance(value, list) else []


@lru_cache(maxsize=1 << 12)
def _pro_targets(target: str) -> tuple[str, ...]:
    """The items of a target. As in the reference, every unquoted word of a bracketed list gets quotes first.

    That makes `[Germany, United States]` the items `Germany` and `UnitedStates`; a list with a decimal point in it
    does not parse any more and is read as it stood.
    """
    bracketed = _BRACKETED.fullmatch(target.strip())
    if bracketed:
        quoted = literal("[" + _UNQUOTED_WORD.sub(r"'\g<0>'", bracketed.group(1)) + "]")
        if isinstance(quoted, list):
            return tuple(_pro_items(as_text(quoted))) or (target,)
    return tuple(_pro_items(target)) or (target,)


def _pro_item(prediction: str, target: str) -> float:
    target = target.strip().strip("%").strip()
    prediction = prediction.strip().strip("%").strip()
    try:
        t = float(target.strip("%"))
        p = float(prediction.strip("%"))
    except ValueError:
        return anls(prediction, target)
    if t == 0.0:
        return 1.0 if p == 0.0 else 0.0
    return 1.0 if within_tolerance(p, t) else 0.0


def _is_year(flag: object) -> bool:
    return flag.strip().upper() == "YES" if isinstance(flag, str) else bool(flag)


def _flags(year_flags: object, count: int) -> list[bool]:
    if year_flags is None:
        return [False] * count
    given: Iterable[object] = (
        year_flags if isinstance(year_flags, Sequence) and not isinstance(year_flags, str) else [year_flags]
    )
    flags = [_is_year(flag) for flag in given]
    if len(flags) < count:
        flags *= count
    return flags or [False] * count


def chartqapro(prediction: str, target: str, *, year_flags: object = None, exact: bool = False) -> float:
    """vis-nlp/ChartQAPro: lists item by item, numbers within 5 %, texts by ANLS. A float between 0 and 1.

    Args:
        year_flags: the data set's `Year` column for this question: `"YES"`/`"NO"` or booleans, one or one per item.
            Flagged items have to match exactly. None means no years.
        exact: every item has to match exactly. lmms-eval asks this of questions of the types Fact Checking and Multi
            Choice; the official script computes the switch and never passes it on.

    The official pipeline strips `.` from both sides before it calls this rule. Missing or surplus items score 0.
    """
    targets = _pro_targets(target) if len(target) <= _LONGEST_LITERAL else (target,)
    predictions = _pro_items(prediction) or [prediction]
    flags = _flags(year_flags, len(targets))
    total = 0.0
    for p, t, flag in zip(predictions, targets, flags):  # noqa: B905 - unpaired items add nothing, and count below
        if flag or exact:
            total += 1.0 if p.strip().lower() == t.strip().lower() else 0.0
        else:
            total += _pro_item(p, t)
    return total / max(len(predictions), len(targets))


VARIANTS: dict[str, Callable[..., float]] = {
    "pix2struct": pix2struct,
    "unichart": unichart,
    "vlmevalkit": vlmevalkit,
    "swapped": swapped,
    "vlmevalkit_legacy": vlmevalkit_legacy,
    "lenient": lenient,
    "strict_year": strict_year,
    "exact_match": exact_match,
    "chartqapro": chartqapro,
}
ALIASES = {"relaxed": "pix2struct", "lmms_eval": "pix2struct", "qwen_vl": "swapped", "internvl": "swapped"}


def variant_name(variant: str) -> str:
    """The canonical name of a variant or alias. Raises ValueError, naming the known ones, for any other."""
    name = ALIASES.get(variant, variant) if isinstance(variant, str) else variant
    if not isinstance(name, str) or name not in VARIANTS:
        known = ", ".join([*VARIANTS, *(f"{alias} (= {name})" for alias, name in ALIASES.items())])
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
    """Is `prediction` a right answer where `target` is the label? 1.0 or 0.0 (`chartqapro`: anything in between).

    Args:
        prediction: a string; numbers and None are scored as `str(prediction)`. Model output should be stripped of
            white space beforehand, as a visible step: the default variant does not do it.
        target: a string, number or None likewise, or a list, tuple, set or array of accepted answers, of which the
            best one counts (no accepted answer: 0.0).
        variant: `pix2struct` (aliases `relaxed`, `lmms_eval`), `unichart`, `vlmevalkit`, `swapped` (aliases `qwen_vl`,
            `internvl`), `vlmevalkit_legacy`, `lenient`, `strict_year`, `exact_match`, `chartqapro`: see `variants.py`.
        year_flags, exact: for `chartqapro`, see there; the other variants ignore them.

    Raises:
        ValueError: an unknown variant. Never for a prediction or target.
    """
    return _score(as_text(prediction), as_targets(target), _scorer(variant, year_flags, exact))


def _scorer(variant: str, year_flags: object = None, exact: bool = False) -> Callable[[str, str], float]:
    name = variant_name(variant)
    return partial(VARIANTS[name], year_flags=year_flags, exact=exact) if name == "chartqapro" else VARIANTS[name]


def _score(prediction: str, targets: str | list[str], scorer: Callable[[str, str], float]) -> float:
    if type(targets) is str:
        return scorer(prediction, targets)
    return max((scorer(prediction, target) for target in targets), default=0.0)
