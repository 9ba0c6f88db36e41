"""What the benchmarks measure with is right; their figures are never tested, they are measured."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import table
from tests.benchmarks.measure import (
    MIB,
    Report,
    Row,
    Sample,
    alternate,
    apart,
    digits,
    forget_peak,
    markdown,
    peak_resident,
    ratio,
    read_rows,
    resident,
)


class Clock:
    """Stands still but for what the works spend."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_works_take_turns_and_every_other_round_goes_backwards():
    order, clock = [], Clock()
    times = alternate({name: lambda name=name: order.append(name) for name in "abc"}, runs=3, clock=clock)
    assert "".join(order) == "cba" + "abc" + "cba" + "abc"  # the first is the warm-up
    assert {name: sample.values for name, sample in times.items()} == dict.fromkeys("abc", (0.0, 0.0, 0.0))


def test_times_are_those_of_the_work_alone():
    clock, spent = Clock(), iter([50.0, 60.0, 1.0, 10.0, 20.0, 2.0, 3.0, 40.0])
    works = {"peer": lambda: clock.spend(next(spent)), "ours": lambda: clock.spend(next(spent))}
    before = []

    def prepare(name: str) -> None:
        before.append(name)
        clock.spend(1000.0)

    times = alternate(works, runs=3, before=prepare, clock=clock)
    assert times["peer"].values == (1.0, 2.0, 3.0)  # rounds: peer 1, ours 10; ours 20, peer 2; peer 3, ours 40
    assert times["ours"].values == (10.0, 20.0, 40.0)
    assert before == ["ours", "peer", "peer", "ours", "ours", "peer", "peer", "ours"]


def test_median_spread_and_rate():
    sample = Sample((4.0, 1.0, 2.0, 8.0))
    assert (sample.median, sample.low, sample.high) == (3.0, 1.0, 8.0)
    rate = sample.per_second(16, "charts/s")
    assert (rate.values, rate.unit) == ((4.0, 16.0, 8.0, 2.0), "charts/s")
    assert str(sample) == "3 s (1 - 8)"
    assert str(Sample((0.5,), "")) == "0.5"


def test_the_ratio_is_taken_in_each_round():
    peer, ours = Sample((10.0, 40.0, 30.0)), Sample((5.0, 10.0, 10.0))
    of_pairs = ratio(peer, ours)
    assert of_pairs.values == (2.0, 4.0, 3.0)
    assert str(of_pairs) == "3 x (2 - 4)"
    # The ratio of the medians would be another: 30 / 10 and 8 / 2.
    assert ratio(Sample((8.0, 2.0, 9.0)), Sample((8.0, 1.0, 2.0))).median == 2.0


@pytest.mark.parametrize("other", [Sample((1.0,)), Sample((1.0, 2.0), "GiB")])
def test_samples_that_are_no_pairs_have_no_ratio(other):
    with pytest.raises(ValueError, match="no pairs"):
        ratio(Sample((1.0, 2.0)), other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00001234, "0.0000123"),
        (0.0123456, "0.0123"),
        (1.23456, "1.23"),
        (99.95, "100"),
        (12345.6, "12,346"),
    ],
)
def test_three_digits(value, text):
    assert digits(value) == text


def hold(mebibytes: int) -> int:
    block = bytearray(b"x") * (mebibytes * MIB)
    return len(block)


def hold_twice() -> tuple[int, int, int]:
    hold(201)
    whole = peak_resident()
    forget_peak()
    return whole, peak_resident(), resident()


def test_a_peak_that_is_forgotten():
    whole, after, now = apart(hold_twice).result
    assert whole - after > 190 * MIB
    assert abs(after - now) < 10 * MIB


def refuse() -> None:
    raise ValueError("not with me")


def test_the_memory_of_a_process_of_its_own():
    ballast = bytearray(b"x") * (400 * MIB)
    small, large = apart(hold, 1), apart(hold, mebibytes=201)
    assert (small.result, large.result) == (MIB, 201 * MIB)
    assert (small.device, large.device) == (0, 0)
    assert 190 * MIB < large.resident - small.resident < 210 * MIB
    # What this process holds is not counted in a child of it.
    assert large.resident < len(ballast) <= resident() <= peak_resident()


def test_an_error_of_a_process_of_its_own_comes_back():
    with pytest.raises(ValueError, match="not with me"):
        apart(refuse)


def test_rows_are_printed_and_collected(tmp_path, capsys):
    report = Report("P0", tmp_path, machine="a machine")
    first = Row("adding", ours=Sample((1.0, 3.0, 2.0)), rows=1234)
    peer, ours = Sample((8.0, 9.0, 10.0)), Sample((4.0, 3.0, 2.0))
    again = Row("adding", ours=ours, rows=1234, peer=peer, ratio=ratio(peer, ours), goal=">= 2x", memory="1 GiB")
    report.add(first)
    report.add(again)
    Report("P0", tmp_path, quick=True, machine="a machine").add(first)
    Report("P1", tmp_path, machine="another").add(first)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| work | peer | ours | ratio (low - high) | goal | runs | rows | memory |"
    assert lines[3] == "| adding | - | 2 s (1 - 3) | - | - | 3 | 1,234 | - |"
    assert lines[4] == "| adding | 9 s (8 - 10) | 3 s (2 - 4) | 3 x (2 - 5) | >= 2x | 3 | 1,234 | 1 GiB |"
    assert [json.loads(line)["quick"] for line in (tmp_path / "P0.jsonl").read_text().splitlines()] == [0, 0, 1]
    assert read_rows(tmp_path) == {"a machine": [("P0", again)], "another": [("P1", first)]}
    assert read_rows(tmp_path, quick=True) == {"a machine": [("P0", first)]}
    table.main(["--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed == f"a machine\n\n{markdown([again])}\n\nanother\n\n{markdown([first])}\n\n"
