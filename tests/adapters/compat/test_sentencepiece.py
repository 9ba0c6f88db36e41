"""The tokenizer built from a sentencepiece model is the stored one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chartqa_ft.adapters import compat

from ...support.legacy import Case, question_ids


def test_tokenizer_from_sentencepiece_is_the_same(case: Case, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("tokenizer.json", "*.bin")
    shutil.copytree(case.checkpoint, tmp_path, dirs_exist_ok=True, ignore=ignored)
    tokenizer = compat.load_legacy_processor(tmp_path).tokenizer
    built, stored = (json.loads(t.backend_tokenizer.to_str()) for t in (tokenizer, case.processor.tokenizer))
    if "tokenizer_from_sentencepiece" in case.golden:
        # 4.28.1 then takes a token that was special once, and is in no list any more, for a plain one
        stored.update(case.golden["tokenizer_from_sentencepiece"])
    stored.update(padding=None, truncation=None)  # left over from somebody's last call
    assert built == stored
    assert tokenizer.all_special_tokens == case.processor.tokenizer.all_special_tokens
    assert tokenizer.name_or_path == str(tmp_path)
    assert [question_ids(tokenizer, example) for example in case.examples] == [e["input_ids"] for e in case.examples]


def test_missing_and_damaged_tokenizers_are_named(own: Case, tmp_path: Path) -> None:
    shutil.copy(own.checkpoint / "preprocessor_config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor sentencepiece\.bpe\.model"):
        compat.load_legacy_processor(tmp_path)
    whole = (own.checkpoint / "sentencepiece.bpe.model").read_bytes()
    for damaged in (b"", whole[:-3], b"<html>not found</html>", whole[:1000]):
        (tmp_path / "sentencepiece.bpe.model").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model"):
            compat.load_legacy_processor(tmp_path)
