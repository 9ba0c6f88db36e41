"""Tiny, randomly initialized models with UniChart's architecture (DonutSwin encoder, MBart decoder, Donut processor).

They need no download and use exactly the same code as a real UniChart. The preset `"demo"` learns the charts of
`chartqa_ft.data.synthetic` in minutes on a CPU; a training step of the preset `"test"` takes milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..data.synthetic.drawing import BASE_SIZE, COLORS, PIE_STEP, PIE_TOTAL

if TYPE_CHECKING:
    from transformers import (
        DonutProcessor,
        GenerationConfig,
        PreTrainedTokenizerFast,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
    )

BOS, PAD, EOS, UNK = "<s>", "<pad>", "</s>", "<unk>"
TASK_TOKEN, ANSWER_TOKEN = "<chartqa>", "<s_answer>"
MAX_ANSWER_TOKENS = 20

# The words of the synthetic questions and answers, except colors and numbers.
_QUESTION_WORDS = """
    How much is Is many bars points slices are there Which color largest smallest larger than What minus Yes No
"""
# The words of a text: runs of letters or of digits. Other characters stay single bytes.
_PIECE = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class TinySizes:
    """The sizes of a tiny UniChart.

    Attributes:
        patch_size: Height and width of an image patch in pixels.
        embed_dim: Width of the encoder's first stage. Each further stage doubles the width and halves the grid.
        depths: Number of Swin blocks in each stage.
        encoder_heads: Number of attention heads in each stage.
        window_size: Height and width of an attention window, in patches of the stage.
        decoder_layers: Number of MBart layers.
        decoder_heads: Number of attention heads of the decoder.
        decoder_ffn_dim: Inner width of the decoder's feed-forward layers.
        max_positions: Largest length of prompt and answer together, in tokens.
        dropout: Dropout of the decoder's residual branches and of the encoder's hidden states.
        drop_path_rate: Stochastic depth of the encoder.
        init_std: Standard deviation of new weights. With such small widths, the usual 0.02 makes attention almost
            uniform at first, which costs a few hundred steps.
    """

    patch_size: int = 16
    embed_dim: int = 128
    depths: tuple[int, ...] = (3,)
    encoder_heads: tuple[int, ...] = (4,)
    window_size: int = 6
    decoder_layers: int = 2
    decoder_heads: int = 4
    decoder_ffn_dim: int = 256
    max_positions: int = 512
    dropout: float = 0.0
    drop_path_rate: float = 0.0
    init_std: float = 0.06

    @property
    def width(self) -> int:
        """The width of the encoder's output and of the decoder."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


PRESETS: dict[str, TinySizes] = {
    "demo": TinySizes(),
    "test": TinySizes(
        patch_size=8,
        embed_dim=16,
        depths=(1, 1),
        encoder_heads=(2, 2),
        decoder_layers=1,
        decoder_heads=2,
        decoder_ffn_dim=64,
    ),
}

# Arguments of `Seq2SeqTrainingArguments` with which the preset "demo" learns the charts of `synthetic_chartqa`, found
# by experiment. The model counts marks and finds extremes within 500 steps, finds the mark in the question from about
# step 600, and learns differences last; the learning rate must not decay before that.
DEMO_TRAINING: dict[str, float | int | str] = {
    "learning_rate": 7e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 90,
    "max_steps": 2000,
    "adam_beta2": 0.99,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
}
DEMO_TRAIN_CHARTS = 6000
DEMO_CHARTS_PER_STEP = 16  # with all their questions, 8.45 on average


def tiny_unichart(
    preset: str = "demo",
    *,
    image_size: int = BASE_SIZE,
    seed: int = 0,
    extra_words: Iterable[str] = (),
    **sizes: Any,
) -> tuple[VisionEncoderDecoderModel, DonutProcessor]:
    """Create a tiny, randomly initialized UniChart and its processor.

    The prompt is UniChart's, `<chartqa> {question} <s_answer>`, and the target is ` {answer}</s>`. Generation settings
    (start, end and padding ids, answer length) are in `model.generation_config`.

    Args:
        preset: `"demo"` (1.2 M parameters) or `"test"` (63 thousand).
        image_size: Height and width in pixels that images are resized and padded to; a multiple of
            `patch_size * 2 ** (number of stages - 1)`.
        seed: Seed of the weights; the state of torch's global generator does not change.
        extra_words: More words that are one token each; other unknown words become one token per byte.
        **sizes: Fields of `TinySizes` that replace the preset's.

    Returns:
        The model (float32, in evaluation mode) and the processor.

    Raises:
        ValueError: The preset is unknown, or sizes do not fit each other.
        TypeError: `TinySizes` has no such size.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test", image_size=64, window_size=4)
        >>> sum(weight.numel() for weight in model.parameters())
        62468
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {tuple(PRESETS)}, got {preset!r}")
    shape = replace(PRESETS[preset], **sizes)
    _check_sizes(shape, image_size)

    import torch
    from transformers import DonutImageProcessorPil, DonutProcessor, VisionEncoderDecoderModel

    tokenizer = tiny_tokenizer(extra_words)
    # White becomes 0, so that only the drawing gives a signal; Donut's mean of 0.5 is meant for photographs.
    image_processor = DonutImageProcessorPil(
        size={"height": image_size, "width": image_size}, image_mean=[1.0] * 3, image_std=[0.5] * 3
    )
    processor = DonutProcessor(image_processor=image_processor, tokenizer=tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionEncoderDecoderModel(_model_config(shape, image_size, tokenizer))
    model.generation_config = _generation_config(tokenizer)
    return model.eval(), processor


def tiny_tokenizer(extra_words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Create a byte-level tokenizer for the words of the synthetic questions, which encodes any text without loss.

    Each word is one token, with and without a preceding space. Unknown words become one token per byte of their UTF-8
    encoding, so `<unk>` never occurs and decoding restores every text.

    Args:
        extra_words: Texts, or one text, whose words (runs of letters or of digits) become tokens too.

    Returns:
        A fast tokenizer with `<s>` `<pad>` `</s>` `<unk>` at ids 0 to 3, as in MBart. The markers `<chartqa>` and
        `<s_answer>` are ordinary added tokens as in UniChart: `skip_special_tokens` keeps them.

    Example:
        >>> tiny_tokenizer().tokenize("How much is red?")
        ['How', 'Ġmuch', 'Ġis', 'Ġred', '?']
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {*range(21), *range(0, PIE_TOTAL + 1, PIE_STEP)}
    more = [extra_words] if isinstance(extra_words, str) else extra_words
    texts = [_QUESTION_WORDS, *COLORS, *map(str, sorted(numbers)), *more]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    pieces = [BOS, PAD, EOS, UNK, *sorted(byte_level.alphabet())]
    for text in texts:
        for word in _PIECE.findall(text):
            for piece in (word, " " + word):
                # The byte-level form, in which a space is "Ġ" and every byte is a printable character.
                pieces += [mapped for mapped, _ in byte_level.pre_tokenize_str(piece)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    # ignore_merges: words of the vocabulary are single tokens, so no merges are needed.
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = byte_level
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in (TASK_TOKEN, ANSWER_TOKEN)])
    return tokenizer


def _check_sizes(shape: TinySizes, image_size: int) -> None:
    stride = shape.patch_size * 2 ** (len(shape.depths) - 1)
    if image_size < 1 or image_size % stride:
        raise ValueError(f"image_size must be a multiple of {stride} (patch_size and the stages), got {image_size}")
    if len(shape.encoder_heads) != len(shape.depths):
        raise ValueError(f"encoder_heads needs one number per stage of depths={shape.depths}: {shape.encoder_heads}")
    for stage, heads in enumerate(shape.encoder_heads):
        if shape.embed_dim * 2**stage % heads:
            raise ValueError(
                f"encoder_heads: {heads} does not divide stage {stage}'s width {shape.embed_dim * 2**stage}"
            )
    if shape.width % shape.decoder_heads:
        raise ValueError(f"decoder_heads={shape.decoder_heads} does not divide the width {shape.width}")


def _model_config(shape: TinySizes, image_size: int, tokenizer: PreTrainedTokenizerFast) -> VisionEncoderDecoderConfig:
    from transformers import DonutSwinConfig, MBartConfig, VisionEncoderDecoderConfig

    encoder = DonutSwinConfig(
        image_size=[image_size, image_size],
        patch_size=shape.patch_size,
        embed_dim=shape.embed_dim,
        depths=list(shape.depths),
        num_heads=list(shape.encoder_heads),
        window_size=shape.window_size,
        hidden_dropout_prob=shape.dropout,
        drop_path_rate=shape.drop_path_rate,
        initializer_range=shape.init_std,
        use_absolute_embeddings=False,  # broken upstream, which has one embedding too many
    )
    decoder = MBartConfig(
        vocab_size=len(tokenizer),
        d_model=shape.width,
        encoder_layers=shape.decoder_layers,  # not used, but the KV cache takes its number of layers from it
        encoder_attention_heads=shape.decoder_heads,
        decoder_layers=shape.decoder_layers,
        decoder_attention_heads=shape.decoder_heads,
        decoder_ffn_dim=shape.decoder_ffn_dim,
        max_position_embeddings=shape.max_positions,
        dropout=shape.dropout,
        init_std=shape.init_std,
        is_decoder=True,
        add_cross_attention=True,
        add_final_layer_norm=True,
        scale_embedding=True,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.pad_token_id = tokenizer.pad_token_id
    config.decoder_start_token_id = tokenizer.convert_tokens_to_ids(TASK_TOKEN)
    return config


def _generation_config(tokenizer: PreTrainedTokenizerFast) -> GenerationConfig:
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(TASK_TOKEN),
        max_new_tokens=MAX_ANSWER_TOKENS,
    )
