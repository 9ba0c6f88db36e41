"""Fingerprints on disk: read as they were written, and passed over where they are damaged."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.images import fingerprint_cache
from chartqa_ft.images.fingerprint_cache import KEY_BYTES, fingerprint_file, read_fingerprints, write_fingerprints
from chartqa_ft.images.fingerprints import fingerprint


def prints(number: int) -> dict[bytes, np.ndarray]:
    return {bytes([n] * KEY_BYTES): fingerprint(Image.new("RGB", (20, 10), (n, 0, 0))) for n in range(number)}


def test_round_trip(tmp_path):
    written = prints(3)
    write_fingerprints(tmp_path / "new", written)
    read = read_fingerprints(tmp_path / "new")
    assert list(read) == list(written)
    assert all(read[key] == written[key] for key in written)


def test_those_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint_cache, "LIMIT", 2)
    write_fingerprints(tmp_path, prints(3))
    assert list(read_fingerprints(tmp_path)) == list(prints(3))[1:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:10], lambda data: b"", lambda data: data[:60] + b"\x00" + data[61:]],
    ids=["cut", "header cut", "empty", "one byte"],
)
def test_a_damaged_file_counts_as_missing(tmp_path, damage):
    write_fingerprints(tmp_path, prints(2))
    file = fingerprint_file(tmp_path)
    changed = damage(file.read_bytes())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    assert read_fingerprints(tmp_path) == {}


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        write_fingerprints(tmp_path / "file", prints(1))
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        f"fingerprints of charts cannot be kept in {tmp_path / 'file'}"
    ]
    assert read_fingerprints(tmp_path / "file") == {}
