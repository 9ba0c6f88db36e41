"""Relaxed accuracy as a metric of `evaluate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from chartqa_ft.metrics.accuracy import relaxed_accuracy

from .examples import TEN


@pytest.mark.filterwarnings("error")
def test_evaluate_metric_equals_relaxed_accuracy(tmp_path: Path) -> None:
    from chartqa_ft.metrics import RelaxedAccuracy

    metric = RelaxedAccuracy(cache_dir=str(tmp_path))
    rows = list(zip(*TEN.values(), strict=True))
    odd = [
        ("\ud800", ["x", "\ud800"], None),
        (None, 5, "human"),
        (2, [2.01, None], "augmented"),
        ("é", "É", "unknown"),
    ]
    for start in (0, 4, 8):
        predictions, references, sources = map(list, zip(*rows[start : start + 4], strict=True))
        metric.add_batch(predictions=predictions, references=references, sources=sources)
    for prediction, reference, source in odd:
        metric.add(prediction=prediction, reference=reference, source=source)
    predictions, references, sources = map(list, zip(*rows, *odd, strict=True))
    expected = relaxed_accuracy(predictions=predictions, references=references, sources=sources)
    assert metric.compute() == expected
    assert expected["n"] == 14
    # a second round starts empty; everything in one call, with options, is the same
    assert metric.compute(
        predictions=predictions,
        references=references,
        sources=sources,
        variant="lenient",
        interval="bootstrap",
        seed=4,
    ) == relaxed_accuracy(
        predictions=predictions,
        references=references,
        sources=sources,
        variant="lenient",
        interval="bootstrap",
        seed=4,
    )


def test_evaluate_metric_without_sources_and_with_a_configured_variant(tmp_path: Path) -> None:
    from chartqa_ft.metrics import RelaxedAccuracy

    metric = RelaxedAccuracy("unichart", cache_dir=str(tmp_path))
    metric.add_batch(predictions=["0.0"], references=["0"])
    assert metric.compute()["relaxed_accuracy"] == 1.0
    assert metric.compute(predictions=["0.0"], references=["0"], variant="pix2struct")["relaxed_accuracy"] == 0.0
    with pytest.raises(ValueError, match="unknown variant"):
        metric.compute(predictions=["1"], references=["1"], variant="relaxd")
    with pytest.raises(ValueError, match="needs predictions and references"):
        metric.compute(predictions=["1"])
    with pytest.raises(ValueError, match="2 predictions, 1 references and 1 sources"):
        RelaxedAccuracy(cache_dir=str(tmp_path)).add_batch(predictions=["1", "2"], references=["1"])


def test_evaluate_metric_combines_with_others(tmp_path: Path) -> None:
    import evaluate

    from chartqa_ft.metrics import RelaxedAccuracy

    both = evaluate.combine({v: RelaxedAccuracy(v, cache_dir=str(tmp_path)) for v in ("pix2struct", "unichart")})
    both.add_batch(predictions=["0.0", "7"], references=["0", "7"])
    metrics = both.compute()
    assert metrics["pix2struct_relaxed_accuracy"] == 0.5
    assert metrics["unichart_relaxed_accuracy"] == 1.0


def test_sources_without_predictions_are_refused(tmp_path: Path) -> None:
    from chartqa_ft.metrics import RelaxedAccuracy

    metric = RelaxedAccuracy(cache_dir=str(tmp_path))
    metric.add_batch(predictions=["1", "2"], references=["1", "2"])
    with pytest.raises(ValueError, match="pass those of add_batch to it"):
        metric.compute(sources=["human", "augmented"])
