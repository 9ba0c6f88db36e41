"""Ten questions with their verdicts, which the tests of metrics share."""

from __future__ import annotations

TEN = {
    "predictions": ["Yes", "no", "104", "12%", "Peru.", "", "2011", "$5", "1,000", "7"],
    "references": ["Yes", "No", "100", "12", "Peru", "41", "2010", "5", "1000", "seven"],
    "sources": ["human"] * 4 + ["augmented"] * 4 + ["unknown", None],
}
TEN_VERDICTS = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
