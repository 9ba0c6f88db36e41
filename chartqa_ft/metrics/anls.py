"""Average normalized Levenshtein similarity (ANLS): how similar are two texts?"""

from __future__ import annotations


def edit_distance(a: str, b: str) -> int:
    """Return the Levenshtein distance of two strings in code points.

    Uses the bit-parallel recurrence of Myers 1999 as simplified by Hyyrö 2003: one Python integer holds a whole column
    of the table (bit j: does the cell rise or fall against cell j - 1), so that a degenerate answer of thousands of
    characters costs milliseconds, not seconds.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
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
    """Return the normalized Levenshtein similarity of two texts, between 0 and 1, ignoring case.

    `1 - d / n` if `d / n < threshold` else 0, with the edit distance d and the length n of the longer text (Biten et
    al. 2019, arXiv:1907.00490, eq. 1). Runs of white space count as one space. Lengths are those of the upper-case
    texts, as in the `anls` package, which matters for `ß`.

    Args:
        prediction: the predicted text.
        target: the label.
        threshold: share of differing characters from which texts are not similar at all.

    Example:
        >>> anls("Unlikely", "likely"), anls("Peru", "Chile")
        (0.75, 0.0)
    """
    for name, text in (("prediction", prediction), ("target", target)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text, and is {text!r}")
    prediction = " ".join(prediction.lower().split())
    target = " ".join(target.lower().split())
    if prediction == target:
        return 1.0
    length = max(len(prediction.upper()), len(target.upper()))
    if abs(len(prediction) - len(target)) / length >= threshold:
        return 0.0  # at least that many insertions
    share = edit_distance(prediction, target) / length
    return 1 - share if share < threshold else 0.0
