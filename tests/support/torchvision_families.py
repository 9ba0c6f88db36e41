"""Tiny models of families whose processors or vision towers need torchvision, for `make families-torchvision`."""

from __future__ import annotations

import os

import torch
import transformers as tf

from chartqa_ft.adapters.processors import image_only

from .families import GEMMA_CHAT, PATCH, POSITIONS, SIDE, SQUARE, VISION, WIDTH, Built, llama_sizes, tokenizer_of
from .more_families import IM_CHAT, IM_TEMPLATE, MORE, built, chat, id_of, im_tokenizer, llama_tokenizer, more

__all__ = ["MORE"]

if os.environ.get("CHARTQA_FAMILIES") == "torchvision":
    # Its convolutions round differently in batches of other sizes, and Gemma 3n reads charts with convolutions.
    torch.backends.mkldnn.enabled = False


INST = {"user": "[INST]", "end_user": "[/INST]", "start": "", "end": "</s>", "first": "<s>"}
INST_SAYS = "<s>[INST]<chart>{prompt}[/INST]|{answer}</s>"
PIXTRAL_CHART = r"(\[IMG\]|\[IMG_BREAK\])+\[IMG_END\]"


def _pixtral(config_class: type, model_class: type, *, merge: int, **differences: object) -> Built:
    named = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    tokenizer = llama_tokenizer("[INST]", "[/INST]", named=named, adds_bos=False)
    config = config_class(
        vision_config=tf.PixtralVisionConfig(**{**VISION, "image_size": 2 * SIDE}, head_dim=16),
        text_config=tf.MistralConfig(**llama_sizes(tokenizer), sliding_window=None, head_dim=16),
        image_token_index=id_of(tokenizer, "[IMG]"),
        vision_feature_layer=-1,
        **differences,
    )
    processor = tf.PixtralProcessor(
        tf.PixtralImageProcessorPil(patch_size=PATCH, size={"longest_edge": 2 * SIDE}),
        tokenizer,
        patch_size=PATCH,
        spatial_merge_size=merge,
        chat_template=chat("[IMG]", **INST),
    )
    return built(model_class(config), processor)


@more(INST_SAYS, PIXTRAL_CHART, torchvision=True)
def pixtral() -> Built:
    return _pixtral(tf.LlavaConfig, tf.LlavaForConditionalGeneration, merge=1, vision_feature_select_strategy="full")


@more(INST_SAYS, PIXTRAL_CHART, torchvision=True)
def mistral3() -> Built:
    return _pixtral(tf.Mistral3Config, tf.Mistral3ForConditionalGeneration, merge=2, spatial_merge_size=2)


@more(
    "<|start|>user: <chart>{prompt}<|end|>\n<|start|>assistant: |{answer}<|end|>",
    r"<\|START_OF_IMG\|>.*<\|END_OF_IMG\|>",
    torchvision=True,
)
def cohere2_vision() -> Built:
    named = {
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "image_token": "<|IMG_PATCH|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    first = ("<pad>", "<bos>", "<|end|>", "<unk>", "<|start|>")
    tokenizer = tokenizer_of(*first, bos="<bos>", eos="<|end|>", pad="<pad>", named=named, padding_side="left")
    config = tf.Cohere2VisionConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.Cohere2Config(**llama_sizes(tokenizer), head_dim=16, sliding_window=256),
        image_token_id=id_of(tokenizer, "<|IMG_PATCH|>"),
        downsample_factor=2,
        alignment_intermediate_size=2 * WIDTH,
    )
    # The patch size is that of the tokens: a tile is a square of so many.
    image_processor = tf.Cohere2VisionImageProcessor(
        size=SQUARE, patch_size=SIDE // PATCH // 2, crop_to_patches=True, min_patches=1, max_patches=3
    )
    template = chat(
        "<|IMG_PATCH|>", user="<|start|>user: ", end_user="<|end|>\n", start="<|start|>assistant: ", end="<|end|>\n"
    )
    processor = tf.Cohere2VisionProcessor(image_processor, tokenizer, chat_template=template)
    return built(tf.Cohere2VisionForConditionalGeneration(config), processor)


@more(IM_CHAT.replace("{chart}", "<chart>"), r"<\|image_start\|>.*<\|image_end\|>", torchvision=True)
def lfm2_vl() -> Built:
    tiles = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    named = {
        "image_token": "<image>",
        "image_start_token": "<|image_start|>",
        "image_end_token": "<|image_end|>",
        "image_thumbnail_token": "<|img_thumbnail|>",
    }
    tokenizer = im_tokenizer(*tiles, named=named)
    vision = {key: value for key, value in VISION.items() if key != "image_size"}
    config = tf.Lfm2VlConfig(
        vision_config=tf.Siglip2VisionConfig(**vision, num_patches=(SIDE // PATCH) ** 2, vision_use_head=False),
        text_config=tf.Lfm2Config(
            **llama_sizes(tokenizer),
            layer_types=["conv", "full_attention"],
            block_auto_adjust_ff_dim=False,
        ),
        image_token_id=id_of(tokenizer, "<image>"),
        downsample_factor=2,
        projector_hidden_size=WIDTH,
    )
    image_processor = tf.Lfm2VlImageProcessor(
        size=SQUARE,
        encoder_patch_size=PATCH,
        downsample_factor=2,
        tile_size=SIDE,
        min_image_tokens=2,
        max_image_tokens=4,
        min_tiles=2,
        max_tiles=4,
    )
    template = chat("<image>", **IM_TEMPLATE, end="<|im_end|>\n")
    processor = tf.Lfm2VlProcessor(image_processor, tokenizer, chat_template=template)
    return built(tf.Lfm2VlForConditionalGeneration(config), processor)


@more(
    "<|im_end|>" + IM_CHAT.replace("{chart}", "<chart>"),
    r"<low_res_im_start>.*?<im_end><im_start>.*?<im_end>",
    needs="Molmo2Config",
    torchvision=True,
)
def molmo2() -> Built:
    places = {
        "image_patch_id": "<im_patch>",
        "image_start_token_id": "<im_start>",
        "image_end_token_id": "<im_end>",
        "low_res_image_start_token_id": "<low_res_im_start>",
        "frame_start_token_id": "<frame_start>",
        "frame_end_token_id": "<frame_end>",
    }
    tokenizer = im_tokenizer(
        *places.values(), *("<im_col>", "<im_low>"), named={"image_token": "<|image|>", "video_token": "<|video|>"}
    )
    sizes = llama_sizes(tokenizer)
    heads = {"head_dim": 16, "num_key_value_heads": 2, "num_attention_heads": 2, "hidden_size": WIDTH}
    text = {key: sizes[key] for key in ("vocab_size", "intermediate_size", "num_hidden_layers")}
    config = tf.Molmo2Config(
        vision_config={
            **heads,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 3,
            "image_size": [SIDE, SIDE],
            "patch_size": PATCH,
        },
        adapter_config={
            **heads,
            "vision_feature_layer": [-1, -2],
            "intermediate_size": 2 * WIDTH,
            "text_hidden_size": WIDTH,
        },
        text_config={**text, **heads, "additional_vocab_size": 0, "max_position_embeddings": POSITIONS},
        **{key: id_of(tokenizer, token) for key, token in places.items()},
    )
    image_processor = tf.Molmo2ImageProcessor(
        size=SQUARE, patch_size=PATCH, max_crops=4, overlap_margins=[1, 1], pooling_size=[2, 2]
    )
    template = chat("<|image|>", **IM_TEMPLATE, end="<|im_end|>\n")
    processor = image_only(tf.Molmo2Processor)(image_processor, None, tokenizer, chat_template=template)
    return built(tf.Molmo2ForConditionalGeneration(config), processor)


@more(
    "<bos><start_of_turn>user\n\n\n<start_of_image><chart><end_of_image>\n\n{prompt}<end_of_turn>\n"
    "<start_of_turn>model\n|{answer}<end_of_turn>",
    r"(<image_soft_token>)+",
    torchvision=True,
    steps=100,
)
def gemma3n() -> Built:
    named = {
        "boi_token": "<start_of_image>",
        "boa_token": "<start_of_audio>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "eoa_token": "<end_of_audio>",
        "audio_token": "<audio_soft_token>",
    }
    tokenizer = tokenizer_of(
        *("<pad>", "<eos>", "<bos>", "<unk>"),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        special=("<start_of_turn>", "<end_of_turn>"),
        named=named,
        adds_bos=True,
        padding_side="left",
    )
    ids = {f"{key}_id": id_of(tokenizer, token) for key, token in named.items()}
    # As in the published models: the tokens of the text, then those of images, then those of sound.
    images, sounds = ids["eoi_token_id"], ids["eoa_token_id"]
    text = {
        **llama_sizes(tokenizer),
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "head_dim": 16,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": images,
        "altup_num_inputs": 2,
        "laurel_rank": 8,
    }
    vision = {
        # MobileNet-V5 in its whole depth, with 8 channels.
        "model_args": {"channel_multiplier": 0.005, "msfa_output_resolution": 4},
        "vocab_size": sounds - images,
        "vocab_offset": images,
    }
    audio = {
        "hidden_size": 16,
        "conf_num_hidden_layers": 1,
        "conf_num_attention_heads": 2,
        "sscp_conv_channel_size": [4, 4],
        "vocab_size": len(tokenizer) - sounds,
        "vocab_offset": sounds,
    }
    config = tf.Gemma3nConfig(
        text_config=text, vision_config=vision, audio_config=audio, vision_soft_tokens_per_image=16, **ids
    )
    processor = tf.Gemma3nProcessor(
        tf.Gemma3nAudioFeatureExtractor(),
        tf.SiglipImageProcessor(size={"height": 2 * SIDE, "width": 2 * SIDE}),
        tokenizer,
        chat_template=GEMMA_CHAT.replace("<start_of_image>", "<image_soft_token>"),
        image_seq_length=16,
    )
    model = tf.Gemma3nForConditionalGeneration(config)
    for layer in model.model.language_model.layers:  # zeros in a fresh model: the inputs of a layer would be lost
        torch.nn.init.ones_(layer.altup.correct_output_scale)
    for block in model.model.vision_tower.modules():  # all but zeros: without a residual nothing would be left
        scale = getattr(block, "layer_scale", None)
        if hasattr(scale, "gamma") and not block.has_skip:
            torch.nn.init.ones_(scale.gamma)
    return built(model, processor)
