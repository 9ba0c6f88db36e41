"""Tiny models of `AutoModelForImageTextToText` that are refused, each with the reason that its error gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import transformers as tf

from .families import PATCH, POSITIONS, SIDE, SQUARE, VISION, WIDTH, Built, llama_sizes, token_ids, tokenizer_of
from .more_families import built, id_of, llama_tokenizer


class Refused(NamedTuple):
    """A model that this library does not support."""

    build: Callable[[], Built]
    reason: str
    """Why, for the table of all models."""
    says: str
    """Regular expression of what the error says that was tried."""


REFUSED: dict[str, Refused] = {}
"""By `config.model_type`."""


def refused(reason: str, says: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a builder under its function's name; see `Refused` for the arguments."""

    def register(builder: Callable[[], Built]) -> Callable[[], Built]:
        REFUSED[builder.__name__] = Refused(builder, reason, says)
        return builder

    return register


def build_refused(name: str) -> Built:
    """A tiny model in evaluation mode, always with the same weights, and its processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = REFUSED[name].build()
    return model.eval(), processor


BERT = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@refused("its logits hold the positions of the chart before those of the tokens", "returns logits of shape")
def git() -> Built:
    tokenizer = tokenizer_of("[PAD]", "[CLS]", "[SEP]", "<unk>", bos="[CLS]", eos="[SEP]", pad="[PAD]")
    config = tf.GitConfig(vision_config=VISION, vocab_size=len(tokenizer), **BERT, **token_ids(tokenizer))
    processor = tf.GitProcessor(tf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE), tokenizer)
    return built(tf.GitForCausalLM(config), processor)


@refused("its `generate` leaves out the last token of the prompt", "are generated together are not those")
def blip() -> Built:
    tokenizer = tokenizer_of("[PAD]", "[CLS]", "[SEP]", "<unk>", bos="[CLS]", eos="[SEP]", pad="[PAD]")
    text = {**BERT, "vocab_size": len(tokenizer), "encoder_hidden_size": WIDTH, "projection_dim": WIDTH}
    config = tf.BlipConfig(text_config={**text, **token_ids(tokenizer)}, vision_config=VISION)
    processor = tf.BlipProcessor(tf.BlipImageProcessorPil(size=SQUARE), tokenizer)
    return built(tf.BlipForConditionalGeneration(config), processor)


@refused("its processor puts the places of the chart into the text by itself", "the processor takes no image")
def fuyu() -> Built:
    tokenizer = llama_tokenizer("|SPEAKER|", "|NEWLINE|", "<0x04>", "<0x00>", "<0x01>", "<0x02>", "<0x03>")
    text = {**llama_sizes(tokenizer), "model_type": "persimmon"}
    config = tf.FuyuConfig(
        text_config=text, image_size=SIDE, patch_size=PATCH, image_token_id=id_of(tokenizer, "|SPEAKER|")
    )
    image_processor = tf.FuyuImageProcessorPil(size=SQUARE, patch_size={"height": PATCH, "width": PATCH})
    return built(tf.FuyuForCausalLM(config), tf.FuyuProcessor(image_processor, tokenizer))


@refused("it has no chat template; the error prints an adapter that was tried and works", "raw_layout")
def chameleon() -> Built:
    tokenizer = llama_tokenizer(named={"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"})
    tokenizer.add_special_tokens({"sep_token": "<reserved08706>"})
    codes = [f"IMGIMG{chr(65 + index)}Z" for index in range(8)]
    tokenizer.add_tokens(codes)
    vocabulary = tokenizer.get_vocab()
    config = tf.ChameleonConfig(
        **llama_sizes(tokenizer),
        vocabulary_map=vocabulary,
        vq_config={
            "embed_dim": 16,
            "num_embeddings": 8,
            "latent_channels": 16,
            "resolution": SIDE,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
        },
    )
    image_processor = tf.ChameleonImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    processor = tf.ChameleonProcessor(image_processor, tokenizer, image_seq_length=(SIDE // 2) ** 2)
    return built(tf.ChameleonForConditionalGeneration(config), processor)
