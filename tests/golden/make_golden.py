"""Creates the golden set: two tiny UniChart checkpoints in the old layout, and the output of transformers 4.28.1.

Run it with the version that the UniChart authors demand; it refuses any other. On Linux, with Python 3.11 (tokenizers
0.13 has no wheels for later ones)::

    python3.11 -m venv /tmp/env428
    /tmp/env428/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    /tmp/env428/bin/pip install transformers==4.28.1 protobuf==3.20.3 "numpy<2" sentencepiece==0.2.3 pillow==13.0.0
    OMP_NUM_THREADS=1 /tmp/env428/bin/python tests/golden/make_golden.py     # about 4 minutes on one core

It writes two folders beside itself, each with the same files:

``modern``
    as a checkpoint that 4.28.1 saves: DonutImageProcessor, size as a dict, generation_config.json, task tokens added
    as plain tokens, the clean-up flag written out.
``ancient``
    as one saved before 4.25: DonutFeatureExtractor with size ``[width, height]`` and without the rescale keys, no
    generation_config.json, task tokens added as special tokens, no clean-up flag; its sentencepiece model has no
    normalization table, and its tokenizer.json holds the padding and truncation of the last call in training.

====================  ================================================================================================
``checkpoint/``       model and processor as ``save_pretrained`` of 4.28.1 leaves them (fp32, pytorch_model.bin)
``images/*.png``      charts drawn here; ``examples.json`` lists ``imgname``, ``query``, ``label`` in ChartQA's way
``golden.npz``        per example i: ``pixel_values_i``, ``train_pixel_values_seed0_i`` (random padding after
                      ``np.random.seed(0)``, examples in order), ``encoder_i``, ``answer_logits_i`` (the rows that
                      predict an answer token)
``golden.json``       everything else; ``examples[i]`` has ids, labels, losses, greedy and beam sequences
====================  ================================================================================================

``beam4`` is the authors' own call; ``beam_variants`` are other settings of beam search, each at batch size 1. A
rerun on the same machine gives the same files; on another processor weights and values all change.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from PIL import Image, ImageDraw, ImageFont
from reference import WIDE, Kind, compute, tokenize
from transformers import (
    DonutFeatureExtractor,
    DonutImageProcessor,
    DonutProcessor,
    DonutSwinConfig,
    DonutSwinModel,
    MBartConfig,
    MBartForCausalLM,
    VisionEncoderDecoderModel,
    XLMRobertaTokenizer,
    XLMRobertaTokenizerFast,
)

if transformers.__version__ != "4.28.1":
    raise SystemExit(f"this script needs transformers 4.28.1, found {transformers.__version__}: see its docstring")

HERE = Path(__file__).resolve().parent
TASK_TOKENS = ["<s_answer>", "<chartqa>", "<opencqa>", "<summarize_chart>", "<extract_data_table>"]
BASE_TOKENS = ["<sep/>", "<s_iitcdip>", "<s_synthdog>"]
# A few rules (in hexadecimal code points) instead of the 240 kB of nmt_nfkc: enough to see that a table is applied.
RULES = "bd\t31 20 2F 32\nb2\t32\n2122\t54 4D\n2026\t2E 2E 2E\nfb01\t66 69\nff05\t25\nff11\t31\na\t20\n9\t20\na0\t20\n"
PLACES = ["Peru", "Chile", "Ghana", "Nepal", "Malta", "Kenya", "Cuba", "Oman", "Fiji", "Laos"]
COLOURS = ["navy", "teal", "orange", "crimson", "olive", "purple", "gray", "brown"]

KINDS = [
    Kind(
        name="modern",
        seed=5,
        size=(96, 96),
        encoder={"depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 3, "embed_dim": 8},
        decoder={
            "decoder_layers": 2,
            "decoder_ffn_dim": 64,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 80,
            "max_length": 48,
        },
    ),
    Kind(
        name="ancient",
        seed=8,
        size=(80, 112),
        encoder={"depths": [1, 2, 2], "num_heads": [2, 4, 8], "window_size": 5, "embed_dim": 8},
        decoder={
            "decoder_layers": 3,
            "decoder_ffn_dim": 48,
            "decoder_attention_heads": 8,
            "max_position_embeddings": 72,
        },
        ancient=True,
    ),
]


def draw_chart(rng: random.Random, size: tuple[int, int]) -> tuple[Image.Image, list[tuple[str, str]]]:
    """Draws bars of three or four places; returns the chart and its (question, answer) pairs."""
    width, height = size
    image = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    names, colours = rng.sample(PLACES, rng.choice([3, 4])), rng.sample(COLOURS, 4)
    values = {name: rng.randint(4, 99) for name in names}
    step, base = (width - 20) / len(names), height - 20
    for i, (name, value) in enumerate(values.items()):
        left, top = 15 + i * step, base - value * (height - 40) / 100
        pen.rectangle([left, top, left + 0.6 * step, base], fill=colours[i])
        pen.text((left, base + 3), name, fill="black", font=font)
        pen.text((left, top - 14), str(value), fill="black", font=font)
    pen.line([10, base, width - 5, base], fill="black")
    first, second = values[names[0]], values[names[1]]
    pairs = [(f"What is the value of {name}?", str(value)) for name, value in values.items()]
    pairs += [
        ("Which country has the highest value?", max(values, key=values.get)),
        ("Which country has the lowest value?", min(values, key=values.get)),
        ("How many bars are shown?", str(len(names))),
        (f"What's the difference between {names[0]} and {names[1]}?", str(abs(first - second))),
        (f"Is {names[0]} higher than {names[1]}?", "Yes" if first > second else "No"),
        (f"What is the colour of {names[1]}, and its value?", f"{colours[1]}, {second}"),
        # answers of very different lengths: only they make the length that a beam's score is divided by matter
        ("Which countries are above 50?", ", ".join(name for name in names if values[name] > 50) or "None"),
        ("Which countries are below 50?", ", ".join(name for name in names if values[name] < 50) or "None"),
        ("What are the values from left to right?", ", ".join(map(str, values.values()))),
    ]
    return image, pairs


def build_tokenizer(kind: Kind, folder: Path) -> XLMRobertaTokenizerFast:
    """A sentencepiece vocabulary in XLM-R's layout, trained on the pool's own questions and answers."""
    lines = [line for _, pairs in kind.charts for pair in pairs for line in pair]
    (folder / "text.txt").write_text("\n".join([*lines, "0123456789,.%"]) + "\n")
    (folder / "rules.tsv").write_text(RULES)
    table = {"normalization_rule_name": "identity"} if kind.ancient else {"normalization_rule_tsv": "rules.tsv"}
    with contextlib.chdir(folder):  # the model stores the paths as they are written here
        sentencepiece.SentencePieceTrainer.train(
            input="text.txt",
            model_prefix="spm",
            model_type="unigram",
            vocab_size=180,
            hard_vocab_limit=False,
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
            **table,
        )
    slow = folder / "slow"
    slow.mkdir()
    shutil.copy(folder / "spm.model", slow / "sentencepiece.bpe.model")
    XLMRobertaTokenizer(str(slow / "sentencepiece.bpe.model")).save_pretrained(slow)
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(slow, from_slow=True)
    tokenizer.add_special_tokens({"additional_special_tokens": BASE_TOKENS})
    if kind.ancient:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<sep/>", *sorted(TASK_TOKENS)]})
    else:
        tokenizer.add_tokens(TASK_TOKENS)
    return tokenizer


def build(kind: Kind, folder: Path) -> tuple[VisionEncoderDecoderModel, DonutProcessor]:
    """An untrained model with the flags of 4.28.1's convert_donut_to_pytorch.py, and its processor."""
    tokenizer = build_tokenizer(kind, folder)
    height, width = kind.size
    if kind.ancient:
        images = DonutFeatureExtractor(do_align_long_axis=False, size=[width, height])
    else:
        images = DonutImageProcessor(do_align_long_axis=False, size={"height": height, "width": width})
    decoder = MBartConfig(
        is_decoder=True,
        is_encoder_decoder=False,
        add_cross_attention=True,
        scale_embedding=True,
        add_final_layer_norm=True,
        d_model=kind.encoder["embed_dim"] * 2 ** (len(kind.encoder["depths"]) - 1),
        vocab_size=len(tokenizer),
        **kind.decoder,
    )
    encoder = DonutSwinConfig(image_size=[height, width], patch_size=4, **kind.encoder)
    model = VisionEncoderDecoderModel(encoder=DonutSwinModel(encoder), decoder=MBartForCausalLM(decoder))
    model.config.pad_token_id = tokenizer.pad_token_id
    if not kind.ancient:
        model.config.decoder_start_token_id = tokenizer.convert_tokens_to_ids("<chartqa>")
    return model, DonutProcessor(images, tokenizer)


def train(kind: Kind, model: VisionEncoderDecoderModel, processor: DonutProcessor, steps: int = 700) -> None:
    """Overfits the pool for a while: enough for answers that differ, not enough for beams that all agree."""
    rng = random.Random(kind.seed)
    pixels = [processor(image, return_tensors="pt").pixel_values[0] for image, _ in kind.charts]
    rows = [(i, *tokenize(processor, *pair)[:2]) for i, (_, pairs) in enumerate(kind.charts) for pair in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    model.train()
    for step in range(steps):
        batch = rng.sample(rows, 24)
        longest = max(int((row[1] != 1).sum()) for row in batch)
        ids = torch.stack([row[1] for row in batch])[:, :longest]
        labels = torch.stack([row[2] for row in batch])[:, :longest]
        if step < steps // 3:  # learn the language of the questions first
            labels = torch.where(ids == 1, -100, ids)
        shown = torch.stack([pixels[row[0]] for row in batch])
        loss = model(shown, decoder_input_ids=ids[:, :-1], labels=labels[:, 1:].contiguous()).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(kind.name, step, round(loss.item(), 3), flush=True)
    model.eval()


def make_ancient(kind: Kind, checkpoint: Path) -> None:
    """Removes what versions before 4.25 did not save; 4.28.1 then loads the rest, as its users did."""
    (checkpoint / "generation_config.json").unlink()
    drop_keys(checkpoint / "tokenizer_config.json", ["clean_up_tokenization_spaces"])
    # as the authors set it: processor.feature_extractor.size = image_size[::-1]
    drop_keys(checkpoint / "preprocessor_config.json", ["do_rescale", "rescale_factor"], size=list(kind.size[::-1]))


def drop_keys(path: Path, keys: list[str], **changes: list[int]) -> None:
    values = {key: value for key, value in json.loads(path.read_text()).items() if key not in keys}
    path.write_text(json.dumps({**values, **changes}, indent=2) + "\n")


def main() -> None:
    torch.set_num_threads(1)
    for kind in KINDS:
        rng = random.Random(kind.seed)
        np.random.seed(kind.seed)
        torch.manual_seed(kind.seed)
        sizes = [rng.choice([(260, 180), (180, 220), (240, 240), (320, 170)]) for _ in range(28)]
        sizes[WIDE] = (560, 80)
        kind.charts = [draw_chart(rng, size) for size in sizes]
        folder = HERE / kind.name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "checkpoint").mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            model, processor = build(kind, Path(scratch))
            train(kind, model, processor)
            if not kind.ancient:
                processor.tokenizer.backend_tokenizer.no_padding()
                processor.tokenizer.backend_tokenizer.no_truncation()
            model.save_pretrained(folder / "checkpoint")
            processor.save_pretrained(folder / "checkpoint")
        if kind.ancient:
            make_ancient(kind, folder / "checkpoint")
        compute(kind, folder)
        print(kind.name, "bytes", sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


if __name__ == "__main__":
    main()
