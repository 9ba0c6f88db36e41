"""Checksums of every byte, and of both ends."""

from __future__ import annotations

import random
import zlib

import pytest

from chartqa_ft.training import checksums
from chartqa_ft.training.checksums import block_sums, end_sum


@pytest.fixture
def small(monkeypatch) -> None:
    for name, value in {"_END": 4, "_BLOCK": 10, "_READ": 3, "SUMMED_WHOLE": 100}.items():
        monkeypatch.setattr(checksums, name, value)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 10, 11, 20, 99, 100])
def test_every_byte_counts(tmp_path, small, size):
    content = random.Random(size).randbytes(size)
    path = tmp_path / "weights"
    path.write_bytes(content)
    blocks = [content[start : start + 10] for start in range(0, size, 10)]
    assert block_sums([path]) == ({path: [zlib.crc32(block) for block in blocks]} if size > 8 else {})
    wanted = end_sum(path), block_sums([path])
    for place in range(size):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert (end_sum(path), block_sums([path])) != wanted, place


def test_of_larger_files_both_ends_count(tmp_path, small):
    path = tmp_path / "weights"
    path.write_bytes(bytes(101))
    assert block_sums([path]) == {}
    assert end_sum(path) == zlib.crc32(bytes(8))
    for place, noticed in ((0, True), (3, True), (50, False), (97, True), (100, True)):
        path.write_bytes(bytes(place) + b"1" + bytes(100 - place))
        assert (end_sum(path) != zlib.crc32(bytes(8))) == noticed


def test_several_files_keep_their_own_sums(tmp_path, small):
    paths = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (15 + number))
    found = block_sums(paths)
    for number, path in enumerate(paths):
        content = bytes([number]) * (15 + number)
        assert found[path] == [zlib.crc32(content[:10]), zlib.crc32(content[10:])]
