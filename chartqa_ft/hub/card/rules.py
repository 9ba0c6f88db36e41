"""The variants of relaxed accuracy in words, for the card."""

from __future__ import annotations

_RELAXED = "it equals the label ignoring case, or is a number within 5 % of the label"
_SWAPPED = "it equals the label ignoring case, or is a number p and the label is within 5 % of p"
RULES = {
    "pix2struct": f"{_RELAXED}; a trailing % divides by 100, and a label of 0 is compared as text",
    "unichart": f"{_RELAXED}; text with % is not a number",
    "vlmevalkit": f"{_RELAXED}; a label that is a list gives several answers; spaces around predictions are ignored",
    "swapped": _SWAPPED,
    "vlmevalkit_legacy": f"{_SWAPPED}; a label that is a list gives several answers",
    "lenient": f"{_RELAXED}; commas, dollar and percent signs and final punctuation are ignored",
    "strict_year": f"{_RELAXED}; a label that is a year (1800 to 2100) must match exactly",
    "exact_match": "it equals the label ignoring case, numbers included",
    "decimal_comma": f"{_RELAXED}; numbers have a decimal comma (1.204,50)",
    "detect_decimal_comma": f"{_RELAXED}; numbers have a decimal comma (1.204,50) if the labels have one",
    "chartqapro": "its items match those of the label: numbers within 5 %, text in proportion to its similarity "
    "(ANLS)",
    "chartqapro_official": "its items match those of the label: numbers within 5 %, text in proportion to its "
    "similarity (ANLS); periods and line breaks at the ends of both are ignored",
}
"""When an answer is right under each variant of relaxed accuracy, as the end of a sentence."""
