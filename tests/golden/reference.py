"""The output of transformers 4.28.1 for a checkpoint and its charts: the values that make_golden.py stores."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import sentencepiece
import tokenizers
import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, DonutProcessor, VisionEncoderDecoderModel
from transformers.generation.beam_search import BeamHypotheses

MAX_LENGTH = 64
WIDE = 2
"""The place in the pool of a very wide chart: only there does the thumbnail's reducing_gap change pixels."""

TOKENIZER_CASES = [
    "<chartqa> What 's the value , in % ?  <s_answer> 1 , 234 . 5</s>",
    "<chartqa>What is Peru?<s_answer>5</s>",
    "<chartqa>  two  spaces   <s_answer>  a  b </s>",
    "<chartqa> \u00bd of \u00b2 \u2122 \u2026 \ufb01ne \uff05\uff11 <s_answer> don 't</s>",
    "<chartqa> a\nb\tc\u00a0d <s_answer> x\n</s>",
    "<chartqa> <mask> <s> <pad> <unk> lit <s_answer> <0x0A></s>",
    "<summarize_chart> <s_answer> long text .</s>",
    "<extract_data_table> <s_answer> a | b & c | d</s>",
    "<opencqa> q <s_answer> do n't I 'm we 've they 're .</s>",
    "<CHARTQA> up <S_ANSWER> x</s>",
    "",
]
BEAM_VARIANTS: list[dict[str, Any]] = [
    {"num_beams": 4, "early_stopping": False},
    {"num_beams": 4, "early_stopping": "never"},
    {"num_beams": 4, "early_stopping": True, "length_penalty": 0.0},
    {"num_beams": 3, "early_stopping": False, "length_penalty": 2.0, "num_return_sequences": 3},
    {"num_beams": 2, "early_stopping": "never", "length_penalty": -1.0, "num_return_sequences": 2},
    {"num_beams": 5, "early_stopping": True, "no_repeat_ngram_size": 2},
    {"num_beams": 4, "early_stopping": True, "forced_eos_token_id": None},
]


@dataclass
class Kind:
    """One of the checkpoints: its seed, image size as (height, width), and the settings of its two halves."""

    name: str
    seed: int
    size: tuple[int, int]
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    ancient: bool = False
    charts: list[tuple[Image.Image, list[tuple[str, str]]]] = field(default_factory=list)


Row = tuple[torch.Tensor, torch.Tensor, int]


def tokenize(processor: DonutProcessor, query: str, label: str, max_length: int = MAX_LENGTH) -> Row:
    """``input_ids`` and ``labels`` of shape (max_length,), and where ``<s_answer>`` stands, by the authors' rules."""
    tokenizer = processor.tokenizer
    ids = tokenizer(
        f"<chartqa> {query} <s_answer> {label}{tokenizer.eos_token}",
        add_special_tokens=False,
        max_length=max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )["input_ids"][0]
    end = int(torch.nonzero(ids == tokenizer.convert_tokens_to_ids("<s_answer>")).sum())
    labels = ids.clone()
    labels[labels == tokenizer.pad_token_id] = -100
    labels[: end + 1] = -100
    return ids, labels, end


def generate(
    model: VisionEncoderDecoderModel,
    processor: DonutProcessor,
    pixels: torch.Tensor,
    prompt: torch.Tensor,
    **settings: Any,
) -> Any:
    """The authors' call, with ``settings`` on top."""
    tokenizer = processor.tokenizer
    call = {
        "max_length": MAX_LENGTH,
        "early_stopping": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "use_cache": True,
        "bad_words_ids": [[tokenizer.unk_token_id]],
        "return_dict_in_generate": True,
        "output_scores": True,
        **settings,
    }
    return model.generate(pixels[None], decoder_input_ids=prompt[None], **call)


def answer_text(processor: DonutProcessor, sequence: torch.Tensor) -> str:
    text = processor.tokenizer.batch_decode(sequence[None])[0].replace("</s>", "").replace("<pad>", "")
    return text.split("<s_answer>")[1].replace("<s>", "").strip(" ")


class ScoredByAnswer:
    """Within this block 4.28.1 divides a beam's score by the generated tokens and EOS, as later versions do."""

    def __init__(self, prompt_length: int) -> None:
        self.prompt_length = prompt_length

    def __enter__(self) -> None:
        self.original = original = BeamHypotheses.add

        def add(beams: BeamHypotheses, hyp: torch.Tensor, total: float, beam_indices: Any = None) -> None:
            old, new = hyp.shape[-1], hyp.shape[-1] + 1 - self.prompt_length
            original(beams, hyp, total * (old / new) ** beams.length_penalty, beam_indices)

        BeamHypotheses.add = add

    def __exit__(self, *error: object) -> None:
        BeamHypotheses.add = self.original


def choose_examples(
    kind: Kind, model: VisionEncoderDecoderModel, processor: DonutProcessor
) -> list[tuple[int, str, str]]:
    """Ten questions on about six charts as (chart, question, answer); first those that hang on the length.

    Questions whose first choices are nearly tied are left out, so that no golden value hangs on the last bit.
    """
    ranked: list[list[tuple[int, str, str]]] = [[], [], []]
    for i, (image, pairs) in enumerate(kind.charts[:14]):
        pixels = processor(image, return_tensors="pt").pixel_values[0]
        for query, label in pairs:
            ids, _, end = tokenize(processor, query, label)
            prompt = ids[: end + 1]
            greedy = generate(model, processor, pixels, prompt)
            beams = generate(model, processor, pixels, prompt, num_beams=4, num_return_sequences=4)
            gap = min(float(step[0].topk(2).values.diff().abs()) for step in greedy.scores)
            if gap < 0.02 or float(beams.sequences_scores.diff().abs().min()) < 2e-3:
                continue
            with ScoredByAnswer(end + 1):
                later = generate(model, processor, pixels, prompt, num_beams=4)
            one, old, new = (answer_text(processor, out.sequences[0]) for out in (greedy, beams, later))
            ranked[0 if old != new else 1 if one != old else 2].append((i, query, label))
    print(kind.name, "beam answer hangs on the length, differs from greedy, same:", [len(rows) for rows in ranked])
    wide = [row for rows in ranked for row in rows if row[0] == WIDE][:1]
    picked = list(dict.fromkeys(ranked[0][:4] + ranked[1][:2] + wide))
    for row in ranked[2] + ranked[1]:
        charts = {chosen[0] for chosen in picked}
        if len(picked) < 10 and row not in picked and (len(charts) < 6 or row[0] in charts):
            picked.append(row)
    if len(picked) < 10 or not ranked[0] or not wide:
        raise SystemExit(f"{kind.name}: only {len(picked)} questions are clear enough; try another seed")
    return picked


def describe_example(
    model: VisionEncoderDecoderModel, processor: DonutProcessor, pixels: torch.Tensor, row: Row
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything about one example but its chart's random padding: (entry of golden.json, arrays of golden.npz)."""
    ids, labels, end = row
    count, prompt, tokenizer = int((ids != 1).sum()), ids[: end + 1], processor.tokenizer
    with torch.no_grad():
        encoded = model.encoder(pixels[None]).last_hidden_state
        output = model(pixels[None], decoder_input_ids=ids[None, :-1], labels=labels[None, 1:])
    record: dict[str, Any] = {
        "prompt_end_index": end,
        "prompt_ids": prompt.tolist(),
        "input_ids": ids[:count].tolist(),
        "labels": labels[:count].tolist(),
        "tokens": tokenizer.convert_ids_to_tokens(ids[:count].tolist()),
        "decoded_input": tokenizer.decode(ids[:count]),
        "loss_eval_mode": float(output.loss),
    }
    for name, beams in (("greedy", 1), ("beam4", 4)):
        for suffix, max_length in (("", MAX_LENGTH), ("_max_length_plus3", end + 4), ("_max_length_plus1", end + 2)):
            out = generate(model, processor, pixels, prompt, num_beams=beams, max_length=max_length)
            record[name + suffix] = {
                "max_length": max_length,
                "sequence": out.sequences[0].tolist(),
                "text": answer_text(processor, out.sequences[0]),
                "raw": tokenizer.batch_decode(out.sequences)[0],
            }
            if beams > 1:
                record[name + suffix]["score"] = float(out.sequences_scores[0])
    four = generate(model, processor, pixels, prompt, num_beams=4, num_return_sequences=4)
    record["beam4"]["all_scores"] = four.sequences_scores.tolist()
    record["beam4"]["all_texts"] = [answer_text(processor, sequence) for sequence in four.sequences]
    with ScoredByAnswer(end + 1):
        later = generate(model, processor, pixels, prompt, num_beams=4)
    record["beam4"]["text_scored_by_answer_length"] = answer_text(processor, later.sequences[0])
    record["beam_variants"] = []
    for variant in BEAM_VARIANTS:
        settings = {"max_length": end + 9, **variant}
        out = generate(model, processor, pixels, prompt, **settings)
        record["beam_variants"].append(
            {"settings": settings, "sequences": out.sequences.tolist(), "scores": out.sequences_scores.tolist()}
        )
    answer = labels[1:] != -100
    return record, {"encoder": encoded[0].numpy(), "answer_logits": output.logits[0][answer].numpy()}


def compute(kind: Kind, folder: Path) -> None:
    """Writes examples.json, images/, golden.json and golden.npz for the checkpoint in ``folder``."""
    processor = DonutProcessor.from_pretrained(folder / "checkpoint")
    model = VisionEncoderDecoderModel.from_pretrained(folder / "checkpoint").eval()
    (folder / "images").mkdir()
    examples = []
    for i, query, label in choose_examples(kind, model, processor):
        name = f"chart_{i:02d}.png"
        kind.charts[i][0].save(folder / "images" / name, optimize=True)
        examples.append({"imgname": name, "query": query, "label": label})
    (folder / "examples.json").write_text(json.dumps(examples, indent=1) + "\n")

    images = [Image.open(folder / "images" / row["imgname"]).convert("RGB") for row in examples]
    pixels = [processor(image, return_tensors="pt").pixel_values[0] for image in images]
    rows = [tokenize(processor, row["query"], row["label"]) for row in examples]
    cut = tokenize(processor, examples[0]["query"], examples[0]["label"], 6)
    np.random.seed(0)
    shifted = [processor(image, random_padding=True, return_tensors="pt").pixel_values[0] for image in images]
    versions = (transformers, torch, PIL, tokenizers, np, sentencepiece)
    golden: dict[str, Any] = {
        "versions": {module.__name__: module.__version__ for module in versions},
        "max_length": MAX_LENGTH,
        "generation_config_in_force": {k: v for k, v in model.generation_config.to_dict().items() if v is not None},
        "truncated_max_length_6": {"input_ids": cut[0].tolist(), "labels": cut[1].tolist()},
        "tokenizer_cases": [tokenizer_case(processor, text) for text in TOKENIZER_CASES],
        "tokenizer_from_sentencepiece": rebuilt_tokenizer(folder / "checkpoint"),
        "examples": [],
    }
    arrays = {}
    for i, example in enumerate(examples):
        record, values = describe_example(model, processor, pixels[i], rows[i])
        golden["examples"].append({**example, **record})
        values.update(pixel_values=pixels[i].numpy(), train_pixel_values_seed0=shifted[i].numpy())
        arrays.update({f"{name}_{i}": value for name, value in values.items()})
    golden["batch4_loss_eval_mode"] = batch_loss(model, shifted[:4], rows[:4])
    model.train()
    torch.manual_seed(0)
    golden["batch4_loss_train_mode_seed0"] = batch_loss(model, shifted[:4], rows[:4])
    model.eval()
    golden["train_trajectory"] = trajectory(model, pixels, rows)
    np.savez_compressed(folder / "golden.npz", **arrays)
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def tokenizer_case(processor: DonutProcessor, text: str) -> dict[str, Any]:
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return {
        "text": text,
        "input_ids": ids,
        "with_special_tokens": processor.tokenizer(text)["input_ids"],
        "decoded": processor.tokenizer.decode(ids),
        "decoded_skip_special": processor.tokenizer.decode(ids, skip_special_tokens=True),
    }


def rebuilt_tokenizer(checkpoint: Path) -> dict[str, Any]:
    """All of the backend but its vocabulary that is built when a checkpoint has no tokenizer.json."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(
            checkpoint, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tokenizer.json", "*.bin")
        )
        backend = json.loads(AutoTokenizer.from_pretrained(scratch).backend_tokenizer.to_str())
    return {key: backend[key] for key in ("added_tokens", "normalizer", "post_processor")}


def batch_loss(model: VisionEncoderDecoderModel, pixels: list[torch.Tensor], rows: list[Row]) -> float:
    ids, labels = (torch.stack([row[k] for row in rows]) for k in (0, 1))
    with torch.no_grad():
        return float(model(torch.stack(pixels), decoder_input_ids=ids[:, :-1], labels=labels[:, 1:].contiguous()).loss)


def trajectory(model: VisionEncoderDecoderModel, pixels: list[torch.Tensor], rows: list[Row]) -> dict[str, Any]:
    """Six steps of the authors' recipe (Adam, warm-up 2, cosine, clip 1.0), no dropout; changes ``model``."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / 2 if step < 2 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - 2) / 4)))
    )
    steps = []
    for step in range(6):
        chosen = [(2 * step) % len(rows), (2 * step + 1) % len(rows)]
        ids, labels = (torch.stack([rows[i][k] for i in chosen]) for k in (0, 1))
        shown = torch.stack([pixels[i] for i in chosen])
        loss = model(shown, decoder_input_ids=ids[:, :-1], labels=labels[:, 1:].contiguous()).loss
        rate = optimizer.param_groups[0]["lr"]
        optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        schedule.step()
        steps.append({"idx": chosen, "loss": loss.item(), "lr": rate, "grad_norm": norm})
    squares = sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())
    return {"steps": steps, "param_l2_after": squares**0.5}
