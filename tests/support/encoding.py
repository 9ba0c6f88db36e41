"""What tests of encoded batches share: a record of a white chart, and other encoder/decoder pairs than UniChart."""

from __future__ import annotations

import copy

import torch
from PIL import Image
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    ConvNextConfig,
    ConvNextModel,
    DonutProcessor,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    SwinConfig,
    SwinModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from .common import tiny

WHITE = Image.new("RGB", (96, 96), "white")
WHITE_VALUE, BLACK_VALUE = 0.0, -2.0
"""Of a pixel after the tiny processor's normalization (mean 1, standard deviation 0.5)."""
PAIRS = ["gpt2", "bert", "bart"]


def example(question="What is the value of red?", answer="3", image=WHITE, **more):
    return {"image": image, "question": question, "answer": answer, "chart_id": "w", **more}


def ids(adapter, text):
    return adapter.tokenizer(text, add_special_tokens=False)["input_ids"]


def pair(decoder: str):
    """ViT + GPT-2, Swin + BERT or ConvNeXt + BART, random, and a processor with the tiny tokenizer."""
    _, donut = tiny()
    tokenizer = copy.deepcopy(donut.tokenizer)
    size = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    common = {"vocab_size": len(tokenizer), "is_decoder": True, "add_cross_attention": True}
    torch.manual_seed(0)
    if decoder == "gpt2":
        encoder = ViTModel(ViTConfig(hidden_size=32, intermediate_size=32, **size), add_pooling_layer=False)
        language = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=64, **common))
    elif decoder == "bart":
        encoder = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 32], depths=[1, 1], num_stages=2, image_size=32))
        encoder.config.hidden_size = 32  # VisionEncoderDecoderModel asks for it, and ConvNextConfig has none
        language = BartForCausalLM(
            BartConfig(
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                decoder_attention_heads=2,
                decoder_ffn_dim=32,
                max_position_embeddings=64,
                **common,
            )
        )
    else:
        encoder = SwinModel(
            SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1], num_heads=[2], window_size=4),
            add_pooling_layer=False,
        )
        language = BertLMHeadModel(
            BertConfig(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64,
                **common,
            )
        )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=language).eval()
    model.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = DonutProcessor(ViTImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    return model, processor
