"""The tokenizer of a checkpoint that only has a sentencepiece model, as transformers 4.28.1 builds it.

5.x needs protobuf to read such a file, and builds a different tokenizer. The few fields that matter are read here from
the wire format of protobuf (https://protobuf.dev/programming-guides/encoding), as defined by
sentencepiece_model.proto.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...files import read_json
from .marks import ADVICE

UNIGRAM = 1


def tokenizer_json(folder: Path) -> dict[str, Any]:
    """Return the content of tokenizer.json for XLM-R's tokenizer (Donut's), built from sentencepiece.bpe.model.

    Raises:
        FileNotFoundError: There is no sentencepiece model.
        ValueError: It is damaged, or not a unigram model.
    """
    path = folder / "sentencepiece.bpe.model"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has neither tokenizer.json nor {path.name}: download one of them from the source of the "
            "checkpoint, or run AutoTokenizer.from_pretrained(...).save_pretrained(...) with transformers 4.28.1 there"
        )
    pieces, charsmap = _read_model(path)
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces[3:], ("<mask>", 0.0)]
    spaces = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    normalizers: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    if charsmap:
        table = base64.b64encode(charsmap).decode("ascii")
        normalizers.insert(0, {"type": "Precompiled", "precompiled_charsmap": table})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(folder, len(vocabulary)),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": spaces,
        "post_processor": _post_processor(),
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary},
    }


def _added_tokens(folder: Path, vocabulary_size: int) -> list[dict[str, Any]]:
    path = folder / "special_tokens_map.json"
    named = read_json(path, advice=ADVICE) if path.is_file() else {}
    listed = [*named.pop("additional_special_tokens", []), *named.values()]
    special = {token["content"] if isinstance(token, Mapping) else token for token in listed}
    path = folder / "added_tokens.json"
    ids = read_json(path, advice=ADVICE) if path.is_file() else {}
    base = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": vocabulary_size - 1}
    return [
        {
            "id": token_id,
            "content": content,
            "single_word": False,
            "lstrip": content == "<mask>",
            "rstrip": False,
            "normalized": content == "<mask>" or content not in special | set(base),
            "special": content in special | set(base),
        }
        for content, token_id in sorted({**ids, **base}.items(), key=lambda item: item[1])
    ]


def _post_processor() -> dict[str, Any]:
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B"))
    return {
        "type": "TemplateProcessing",
        "single": [start, first, end],
        "pair": [start, first, end, end, second, end],
        "special_tokens": {
            token: {"id": token, "ids": [i], "tokens": [token]} for token, i in (("<s>", 0), ("</s>", 2))
        },
    }


def _read_model(path: Path) -> tuple[list[tuple[str, float]], bytes]:
    """Return the (piece, score) pairs and the normalization table (may be empty) of a sentencepiece model."""
    pieces, charsmap, kind = [], b"", UNIGRAM
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:  # repeated SentencePiece: 1 piece, 2 score
                piece = dict(_fields(value))
                pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
            elif number == 2:  # TrainerSpec: 3 model_type
                kind = dict(_fields(value)).get(3, UNIGRAM)
            elif number == 3:  # NormalizerSpec: 2 precompiled_charsmap
                charsmap = dict(_fields(value)).get(2, b"")
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"{path} is not a sentencepiece model, or damaged ({error}): download it again") from error
    if kind != UNIGRAM or len(pieces) <= 3:
        raise ValueError(f"{path}: {len(pieces)} pieces, model type {kind}; XLM-R's tokenizer needs a unigram model")
    return pieces, charsmap


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    r"""Yield the (number, value) pairs of a protobuf message: int for a varint, bytes for any other type.

    Example:
        >>> list(_fields(b"\x08\x96\x01"))
        [(1, 150)]
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        number, wire_type = divmod(varint(), 8)
        if wire_type == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(wire_type)
        if wire_type == 2:
            size = varint()
        if size is None or at + size > len(data):
            raise ValueError(f"wire type {wire_type} at byte {at}")
        yield number, data[at : at + size]
        at += size
