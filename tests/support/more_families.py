"""Tiny models of further families, each by what differs from those in `families.py`.

They run in `make families`, some of them in `make test` too (`quick`). To add one, write a builder under `@more(...)`
with what a row of its batch says, as in `WRITTEN` of `tests/families/test_families.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import transformers as tf

from chartqa_ft.adapters.processors import image_only

from .families import (
    LLAVA_PROCESSOR,
    PATCH,
    PATCHES,
    POSITIONS,
    SIDE,
    SQUARE,
    VISION,
    WIDTH,
    Built,
    chatml,
    llama_sizes,
    set_generation,
    token_ids,
    tokenizer_of,
)


class More(NamedTuple):
    """A further family."""

    build: Callable[[], Built]
    kind: str
    written: str
    """What a row of a batch says; see `WRITTEN` of the tests."""
    chart: str
    """Regular expression of what stands for a chart in the text."""
    needs: str = ""
    """Name of a class of transformers that its oldest supported release lacks."""
    since: str = ""
    """First release of transformers in which it was seen to pass, where the oldest supported one has it but fails."""
    quick: bool = False
    """Whether `make test` has it too."""
    layout: str | None = None
    """The text that the processor takes, with the field `{prompt}`, for a family without a chat template."""
    arguments: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the processor."""
    torchvision: bool = False
    """Whether its processor needs torchvision, so that it is tested by `make families-torchvision` alone."""
    steps: int = 40
    """Optimizer steps in which it learns four charts by heart."""


MORE: dict[str, More] = {}


def more(
    written: str, chart: str, kind: str = "causal", **differences: Any
) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a builder under its function's name; see `More` for the arguments."""

    def register(builder: Callable[[], Built]) -> Callable[[], Built]:
        MORE[builder.__name__] = More(builder, kind, written, chart, **differences)
        return builder

    return register


# ---------------------------------------------------------------------------------------------------- parts
IM_CHAT = "<|im_start|>user\n{chart}{prompt}<|im_end|>\n<|im_start|>assistant\n|{answer}<|im_end|>"


def chat(image: str, user: str, end_user: str, start: str, end: str, *, first: str = "", thought: str = "") -> str:
    """A chat template from what it writes for a chart, around a question and around an answer.

    Args:
        image: The placeholder of a chart.
        user: What stands before a question.
        end_user: What stands after it.
        start: What stands before an answer.
        end: What stands after it.
        first: The beginning of every conversation.
        thought: What only the prompt of an answer to be generated has.
    """
    user, end_user, start, end, first, thought, image = (
        repr(text) for text in (user, end_user, start, end, first, thought, image)
    )
    part = f"{{{{- {image} if part.type == 'image' else part.text }}}}"
    return (
        f"{{{{- {first} }}}}{{%- for message in messages %}}"
        f"{{%- set mine = message.role == 'assistant' %}}{{{{- {start} if mine else {user} }}}}"
        f"{{%- for part in message.content %}}{part}{{%- endfor %}}"
        f"{{{{- {end} if mine else {end_user} }}}}{{%- endfor %}}"
        f"{{%- if add_generation_prompt %}}{{{{- {start} + {thought} }}}}{{%- endif %}}"
    )


def id_of(tokenizer: Any, token: str) -> int:
    return tokenizer.convert_tokens_to_ids(token)


def im_tokenizer(*special: str, named: dict[str, str] | None = None) -> Any:
    """A tokenizer of ChatML."""
    first = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
    return tokenizer_of(
        *first, eos="<|im_end|>", pad="<|endoftext|>", special=special, named=named, padding_side="left"
    )


def llama_tokenizer(*special: str, named: dict[str, str] | None = None, adds_bos: bool = True) -> Any:
    """A tokenizer with the special tokens of LLaMA 2."""
    return tokenizer_of(
        *("<unk>", "<s>", "</s>", "<pad>"),
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        special=special,
        named=named,
        adds_bos=adds_bos,
        padding_side="left",
    )


def built(model: Any, processor: Any, start: int | None = None) -> Built:
    set_generation(model, processor.tokenizer, start)
    return model, processor


IM_TEMPLATE = {"user": "<|im_start|>user\n", "end_user": "<|im_end|>\n", "start": "<|im_start|>assistant\n"}


# ---------------------------------------------------------------------------------------------------- Qwen
QWEN_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 4,
}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN3_5_CHAT = """{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- for c in m.content %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' if c.type == 'image' else c.text }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""


def _qwen(
    name: str, *, processor: str = "", text: dict | None = None, template: str | None = None, **vision: Any
) -> Built:
    tokenizer = im_tokenizer(*QWEN_TOKENS.values())
    tokenizer.add_tokens(["<think>", "</think>"])
    sizes = {
        "depth": 3,
        "hidden_size": WIDTH,
        "out_hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **vision,
    }
    config = getattr(tf, f"{name}Config")(
        text_config={**llama_sizes(tokenizer), "head_dim": 16, "rope_parameters": MROPE, **(text or {})},
        vision_config=sizes,
        **{key: id_of(tokenizer, token) for key, token in QWEN_TOKENS.items()},
    )
    image_processor = tf.Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    )
    chat_template = template or chatml(QWEN_IMAGE, system=False)
    processor_class = image_only(getattr(tf, f"{processor or name}Processor"))
    model = getattr(tf, f"{name}ForConditionalGeneration")(config)
    return built(model, processor_class(image_processor, tokenizer, None, chat_template=chat_template))


QWEN_SAYS = IM_CHAT.replace("{chart}", "<|vision_start|><chart><|vision_end|>")
QWEN_CHART = r"(<\|image_pad\|>)+"


@more(QWEN_SAYS, QWEN_CHART)
def qwen2_vl() -> Built:
    return _qwen("Qwen2VL", embed_dim=WIDTH, hidden_size=WIDTH, mlp_ratio=2)


@more(QWEN_SAYS, QWEN_CHART, quick=True)
def qwen3_vl_moe() -> Built:
    return _qwen(
        "Qwen3VLMoe",
        processor="Qwen3VL",
        text={**EXPERTS, "decoder_sparse_step": 1},
        num_position_embeddings=64,
        deepstack_visual_indexes=[0],
    )


THOUGHT = QWEN_SAYS.replace("|{answer}", "<think>\n\n</think>\n\n|{answer}")


@more(THOUGHT, QWEN_CHART, since="5.24")  # in 5.19 its beams mix up the patches of charts
def qwen3_5() -> Built:
    return _qwen("Qwen3_5", processor="Qwen3VL", text=LINEAR, template=QWEN3_5_CHAT, num_position_embeddings=64)


@more(THOUGHT, QWEN_CHART, since="5.24")  # as qwen3_5
def qwen3_5_moe() -> Built:
    text = {**LINEAR, **EXPERTS, "shared_expert_intermediate_size": WIDTH}
    return _qwen("Qwen3_5Moe", processor="Qwen3VL", text=text, template=QWEN3_5_CHAT, num_position_embeddings=64)


# ---------------------------------------------------------------------------------------------------- GLM
def _glm(name: str) -> Built:
    places = {
        "image_token_id": "<|image|>",
        "video_token_id": "<|video|>",
        "image_start_token_id": "<|begin_of_image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_end_token_id": "<|end_of_video|>",
    }
    turns = ("<|user|>", "<|assistant|>")
    tokenizer = tokenizer_of(
        *("<|endoftext|>", "[gMASK]", "<sop>", "<unk>"),
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        special=(*places.values(), *turns),
        padding_side="left",
    )
    vision = {
        "depth": 3,
        "hidden_size": WIDTH,
        "out_hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 2,
        "patch_size": PATCH,
        "image_size": SIDE,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    rope = {**MROPE, "partial_rotary_factor": 1.0}
    config = getattr(tf, f"{name}Config")(
        text_config=dict(tf.Glm4vTextConfig(**{**llama_sizes(tokenizer), "rope_parameters": rope}).to_dict()),
        vision_config=vision,
        **{key: id_of(tokenizer, token) for key, token in places.items()},
    )
    image_processor = getattr(tf, f"{name}ImageProcessorPil")(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 512, "longest_edge": 2 * 48 * 48}
    )
    template = chat(
        "<|begin_of_image|><|image|><|end_of_image|>",
        user="<|user|>\n",
        end_user="",
        start="<|assistant|>",
        end="<|user|>",
        first="[gMASK]<sop>",
    )
    processor = image_only(getattr(tf, f"{name}Processor"))(image_processor, tokenizer, None, chat_template=template)
    return built(getattr(tf, f"{name}ForConditionalGeneration")(config), processor)


GLM_SAYS = "[gMASK]<sop><|user|>\n<|begin_of_image|><chart><|end_of_image|>{prompt}<|assistant|>|{answer}<|user|>"


@more(GLM_SAYS, r"(<\|image\|>)+")
def glm4v() -> Built:
    return _glm("Glm4v")


@more(GLM_SAYS, r"(<\|image\|>)+")
def glm46v() -> Built:
    return _glm("Glm46V")


# ---------------------------------------------------------------------------------------------------- LLaVA and kin
VICUNA_PARTS = {"user": "USER: ", "end_user": " ", "start": "ASSISTANT: ", "end": "</s>"}


@more("<s>USER: <chart>\n{prompt} ASSISTANT: |{answer}</s>", r"(<image>)+")
def vipllava() -> Built:
    tokenizer = llama_tokenizer("<image>")
    config = tf.VipLlavaConfig(
        vision_config=tf.CLIPVisionConfig(**VISION),
        text_config=tf.LlamaConfig(**llama_sizes(tokenizer)),
        image_token_index=id_of(tokenizer, "<image>"),
        vision_feature_layers=[-2, 1],
        vision_feature_layer=[-2, 1],
    )
    image_processor = tf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    template = chat("<image>\n", **VICUNA_PARTS)
    processor = tf.LlavaProcessor(image_processor, tokenizer, chat_template=template, **LLAVA_PROCESSOR)
    return built(tf.VipLlavaForConditionalGeneration(config), processor)


@more(
    IM_CHAT.replace("{chart}", "<chart>\n"),
    r"(<image>)+",
    steps=100,
)
def llava_onevision() -> Built:
    tokenizer = im_tokenizer("<image>", "<video>")
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    config = tf.LlavaOnevisionConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.Qwen2Config(**llama_sizes(tokenizer)),
        image_token_index=id_of(tokenizer, "<image>"),
        video_token_index=id_of(tokenizer, "<video>"),
        image_grid_pinpoints=pinpoints,
    )
    image_processor = tf.LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=pinpoints)
    processor = image_only(tf.LlavaOnevisionProcessor)(
        image_processor,
        tokenizer,
        None,
        num_image_tokens=PATCHES,
        vision_feature_select_strategy="full",
        chat_template=chat("<image>\n", **IM_TEMPLATE, end="<|im_end|>\n"),
    )
    return built(tf.LlavaOnevisionForConditionalGeneration(config), processor)


@more(
    "<|start|>user: <chart>\n{prompt}<|end|>\n<|start|>assistant: |{answer}<|end|>",
    r"<\|START_OF_IMG\|>.*<\|END_OF_IMG\|>",
)
def aya_vision() -> Built:
    parts = (
        "<image>",
        "<|START_OF_IMG|>",
        "<|END_OF_IMG|>",
        "<|IMG_PATCH|>",
        "<|IMG_LINE_BREAK|>",
        "TILE",
        "TILE_GLOBAL",
    )
    first = ("<pad>", "<bos>", "<|end|>", "<unk>", "<|start|>")
    tokenizer = tokenizer_of(*first, bos="<bos>", eos="<|end|>", pad="<pad>", special=parts, padding_side="left")
    config = tf.AyaVisionConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.Cohere2Config(**llama_sizes(tokenizer), head_dim=16, sliding_window=256),
        image_token_index=id_of(tokenizer, "<|IMG_PATCH|>"),
        downsample_factor=2,
    )
    image_processor = tf.GotOcr2ImageProcessorPil(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    template = chat(
        "<image>\n", user="<|start|>user: ", end_user="<|end|>\n", start="<|start|>assistant: ", end="<|end|>\n"
    )
    processor = tf.AyaVisionProcessor(
        image_processor, tokenizer, patch_size=PATCH, img_size=SIDE, downsample_factor=2, chat_template=template
    )
    return built(tf.AyaVisionForConditionalGeneration(config), processor)


@more(
    "<s>User:<chart> {prompt}<end_of_utterance>\nAssistant:| {answer}<end_of_utterance>",
    r"<fake_token_around_image>.*<fake_token_around_image>",
)
def idefics2() -> Built:
    tokenizer = llama_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", adds_bos=False)
    image_processor = tf.Idefics2ImageProcessorPil(
        size={"shortest_edge": SIDE // 2, "longest_edge": SIDE}, do_image_splitting=False
    )
    template = (
        "{{- bos_token }}{%- for message in messages %}"
        "{{- message.role | capitalize + (':' if message.content[0].type == 'image' else ': ') }}"
        "{%- for part in message.content %}{{- '<image>' if part.type == 'image' else part.text }}{%- endfor %}"
        "{{- '<end_of_utterance>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"
    )
    processor = tf.Idefics2Processor(image_processor, tokenizer, image_seq_len=4, chat_template=template)
    config = tf.Idefics2Config(
        vision_config=VISION,
        perceiver_config={
            "hidden_size": WIDTH,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        text_config=tf.MistralConfig(**llama_sizes(tokenizer)),
        image_token_id=id_of(tokenizer, "<image>"),
    )
    return built(tf.Idefics2ForConditionalGeneration(config), processor)


@more(IM_CHAT.replace("{chart}", "<chart>\n"), r"<IMG_START>.*<IMG_END>")
def ovis2() -> Built:
    places = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    tokenizer = im_tokenizer("<image>", "<IMG_ATOM>", *places)
    config = tf.Ovis2Config(
        vision_config={**VISION, "vocab_size": 64, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
        text_config=tf.Qwen2Config(**llama_sizes(tokenizer)).to_dict(),
        image_token_id=id_of(tokenizer, "<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(list(places)),
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
    )
    image_processor = tf.Ovis2ImageProcessorPil(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    template = chat("<image>\n", **IM_TEMPLATE, end="<|im_end|>\n")
    processor = tf.Ovis2Processor(image_processor, tokenizer, chat_template=template, image_seq_length=PATCHES // 4)
    return built(tf.Ovis2ForConditionalGeneration(config), processor)


@more("<s>User: <chart>{prompt}\n\nAssistant:| {answer}</s>", r"(<image_placeholder>)+")
def deepseek_vl() -> Built:
    tokenizer = llama_tokenizer(named={"image_token": "<image_placeholder>"})
    config = tf.DeepseekVLConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.LlamaConfig(**llama_sizes(tokenizer)),
        image_token_id=id_of(tokenizer, "<image_placeholder>"),
    )
    image_processor = tf.DeepseekVLImageProcessorPil(size=SQUARE, min_size=8)
    template = (
        "{%- for message in messages %}{{- 'User: ' if message.role == 'user' else 'Assistant: ' }}"
        "{%- for part in message.content %}"
        "{{- '<image_placeholder>' if part.type == 'image' else part.text }}{%- endfor %}"
        "{{- '\\n\\n' if message.role == 'user' else '</s>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"
    )
    processor = tf.DeepseekVLProcessor(image_processor, tokenizer, chat_template=template, num_image_tokens=PATCHES)
    return built(tf.DeepseekVLForConditionalGeneration(config), processor)


@more(
    IM_CHAT.replace("{chart}", "<fim_prefix><chart><fim_suffix>"),
    r"(<\|img\|>)+",
    steps=100,
)
def aria() -> Built:
    tokenizer = im_tokenizer(named={"image_token": "<|img|>"})
    text = {**llama_sizes(tokenizer), "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    config = tf.AriaConfig(
        vision_config=tf.Idefics3VisionConfig(**{**VISION, "image_size": 980, "patch_size": 70}),
        text_config=tf.AriaTextConfig(**text),
        image_token_index=id_of(tokenizer, "<|img|>"),
        projector_patch_to_query_dict={49: 4, 196: 8},
    )
    image_processor = tf.AriaImageProcessorPil(max_image_size=490, min_image_size=336, split_image=False)
    template = chat("<fim_prefix><|img|><fim_suffix>", **IM_TEMPLATE, end="<|im_end|>\n")
    processor = tf.AriaProcessor(image_processor, tokenizer, size_conversion={490: 4, 980: 8}, chat_template=template)
    return built(tf.AriaForConditionalGeneration(config), processor)


@more(
    "<s>USER: <chart>{prompt} ASSISTANT: |{answer}</s>",
    r"<\|image\|>",
    since="5.24",  # 5.19 warns of its own argument `hidden_state`
)
def mllama() -> Built:
    tokenizer = llama_tokenizer("<|image|>", "<|python_tag|>", adds_bos=False)
    vision = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "vision_output_dim": 3 * WIDTH,
        "image_size": SIDE,
        "patch_size": PATCH,
        "max_num_tiles": 4,
        "intermediate_layers_indices": [0, 1],
    }
    sizes = llama_sizes(tokenizer)
    # The last token has an embedding and no logit, as in the published models.
    text = {**sizes, "vocab_size": len(tokenizer), "cross_attention_layers": [1]}
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
    }
    text["rope_parameters"] = {**rope, "original_max_position_embeddings": POSITIONS // 8}
    config = tf.MllamaConfig(vision_config=vision, text_config=text, image_token_index=id_of(tokenizer, "<|image|>"))
    image_processor = tf.MllamaImageProcessorPil(size=SQUARE, max_image_tiles=4)
    processor = tf.MllamaProcessor(image_processor, tokenizer, chat_template=chat("<|image|>", **VICUNA_PARTS))
    return built(tf.MllamaForConditionalGeneration(config), processor)


# ---------------------------------------------------------------------------------------------------- Gemma
@more(
    "<bos><|turn>user\n\n\n<chart>\n\n{prompt}<turn|>\n<|turn>model\n<|channel>thought\n<channel|>|{answer}<turn|>",
    r"<\|image>(<\|image\|>)+<image\|>",
    steps=100,
    since="5.24",  # in 5.19 its processor needs torchvision
)
def gemma4() -> Built:
    named = {
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "image_token": "<|image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = tokenizer_of(
        *("<pad>", "<eos>", "<bos>", "<unk>"),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        special=("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|video|>"),
        named=named,
        padding_side="left",
    )
    text = {
        **llama_sizes(tokenizer),
        "head_dim": 16,
        "global_head_dim": 32,
        "sliding_window": 512,
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": len(tokenizer),
        "use_bidirectional_attention": "vision",
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "patch_size": PATCH,
        "pooling_kernel_size": 2,
        "position_embedding_size": 256,
    }
    ids = {f"{key}_id": id_of(tokenizer, token) for key, token in named.items() if key != "eoa_token"}
    config = tf.Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=None,
        video_token_id=id_of(tokenizer, "<|video|>"),
        eoa_token_index=id_of(tokenizer, "<audio|>"),
        **ids,
    )
    turns = {"user": "<|turn>user\n", "end_user": "<turn|>\n", "start": "<|turn>model\n", "end": "<turn|>\n"}
    processor = image_only(tf.Gemma4Processor)(
        feature_extractor=tf.Gemma4AudioFeatureExtractor(),
        image_processor=tf.Gemma4ImageProcessorPil(patch_size=PATCH, max_soft_tokens=70, pooling_kernel_size=2),
        tokenizer=tokenizer,
        video_processor=None,
        image_seq_length=70,
        chat_template=chat("\n\n<|image|>\n\n", **turns, first="<bos>", thought="<|channel>thought\n<channel|>"),
    )
    model, processor = built(tf.Gemma4ForConditionalGeneration(config), processor)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, id_of(tokenizer, "<turn|>")]
    return model, processor


# ---------------------------------------------------------------------------------------------------- documents
@more(
    "<|start_of_role|>user:<chart>{prompt}<|end_of_text|>\n<|start_of_role|>assistant:|{answer}<|end_of_text|>",
    r"<fake_token_around_image>.*<global-img>(<image>)+<fake_token_around_image>"
    r"|<fake_token_around_image><row_1_col_1>(<image>)+\n",
    needs="GraniteDoclingConfig",
    steps=100,
)
def granite_docling() -> Built:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = tokenizer_of(
        *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<unk>", "<pad>"),
        eos="<|end_of_text|>",
        pad="<pad>",
        special=("<fake_token_around_image>", "<image>", "<global-img>", *tiles),
        padding_side="left",
    )
    config = tf.GraniteDoclingConfig(
        vision_config={
            **VISION,
            "out_hidden_size": WIDTH,
            "scale_factor": 2,
            "deepstack_visual_indexes": [0, 1],
            "use_fine_route": False,
        },
        text_config={
            **llama_sizes(tokenizer),
            "embedding_multiplier": 3.0,
            "logits_scaling": 1.0,
            "attention_multiplier": 0.25,
            "tie_word_embeddings": True,
        },
        image_token_id=id_of(tokenizer, "<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    role = "<|start_of_role|>"
    template = chat("<image>", f"{role}user:", "<|end_of_text|>\n", start=f"{role}assistant:", end="<|end_of_text|>\n")
    image_processor = tf.GraniteDoclingImageProcessorPil(size=SQUARE, max_patches=4, fine_route=False)
    processor = tf.GraniteDoclingProcessor(image_processor, tokenizer, image_seq_len=4, chat_template=template)
    return built(tf.GraniteDoclingForConditionalGeneration(config), processor)


@more(
    "<s>User: <|IMAGE_START|><chart><|IMAGE_END|>{prompt}\nAssistant: |{answer}</s>",
    r"(<\|IMAGE_PLACEHOLDER\|>)+",
    since="5.24",  # in 5.19 its beams mix up the patches of charts
)
def paddleocr_vl() -> Built:
    places = ("<|VIDEO|>", "<|IMAGE_START|>", "<|IMAGE_END|>")
    tokenizer = llama_tokenizer(*places, named={"image_token": "<|IMAGE_PLACEHOLDER|>"}, adds_bos=False)
    text = {**llama_sizes(tokenizer), "head_dim": 16, "rope_parameters": MROPE}
    config = tf.PaddleOCRVLConfig(
        text_config=text,
        vision_config={**VISION, "spatial_merge_size": 2},
        image_token_id=id_of(tokenizer, "<|IMAGE_PLACEHOLDER|>"),
        video_token_id=id_of(tokenizer, "<|VIDEO|>"),
        vision_start_token_id=id_of(tokenizer, "<|IMAGE_START|>"),
        vision_end_token_id=id_of(tokenizer, "<|IMAGE_END|>"),
    )
    image_processor = tf.PaddleOCRVLImageProcessorPil(
        patch_size=PATCH, merge_size=2, temporal_patch_size=1, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    )
    image = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    template = chat(image, user="User: ", end_user="\n", start="Assistant: ", end="</s>", first="<s>")
    processor = tf.PaddleOCRVLProcessor(image_processor, tokenizer, chat_template=template)
    return built(tf.PaddleOCRVLForConditionalGeneration(config), processor)


# ---------------------------------------------------------------------------------------------------- no chat template
OWN = "{prompt}| {answer}</s>"


@more("<s><image><chart></image>" + OWN, r"(?<=<image>)(<s>)+", layout="{prompt}", arguments={"max_patches": 64})
def kosmos2_5() -> Built:
    places = 8
    named = {"boi_token": "<image>", "eoi_token": "</image>", "image_token": "<s>"}
    tokenizer = tokenizer_of("<s>", "<pad>", "</s>", "<unk>", bos="<s>", eos="</s>", pad="<pad>", named=named)
    text = {
        "vocab_size": len(tokenizer),
        "embed_dim": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "layers": 2,
        "attention_heads": 2,
        "max_position_embeddings": POSITIONS,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        **token_ids(tokenizer),
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
        "patch_embed_hidden_size": 3 * 16 * 16,
        "max_num_patches": 256,
    }
    config = tf.Kosmos2_5Config(text_config=text, vision_config=vision, latent_query_num=places)
    image_processor = tf.Kosmos2_5ImageProcessorPil(max_patches=64)
    processor = tf.Kosmos2_5Processor(image_processor, tokenizer, num_image_tokens=places)
    return built(tf.Kosmos2_5ForConditionalGeneration(config), processor)


def _blip(name: str, tokenizer: Any, processor: Any, **qformer: Any) -> Built:
    text = tf.OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        ffn_dim=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        word_embed_proj_dim=WIDTH,
        dropout=0.0,
        **token_ids(tokenizer),
    )
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = getattr(tf, f"{name}Config")(
        vision_config={**VISION},
        qformer_config={**sizes, **dropout, **qformer, "encoder_hidden_size": WIDTH},
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=id_of(tokenizer, "<image>"),
    )
    return built(getattr(tf, f"{name}ForConditionalGeneration")(config), processor)


def _blip_tokenizer() -> Any:
    return tokenizer_of("</s>", "<pad>", "<unk>", bos="</s>", eos="</s>", pad="<pad>", adds_bos=True)


@more("<chart></s>" + OWN, r"(<image>)+", layout="{prompt}")
def blip2() -> Built:
    tokenizer = _blip_tokenizer()
    processor = tf.Blip2Processor(tf.BlipImageProcessorPil(size=SQUARE), tokenizer, num_query_tokens=4)
    return _blip("Blip2", tokenizer, processor)


@more("<chart></s>" + OWN, r"(<image>)+", layout="{prompt}", steps=100)
def instructblip() -> Built:
    tokenizer, reader = _blip_tokenizer(), _blip_tokenizer()
    image_processor = tf.BlipImageProcessorPil(size=SQUARE)
    processor = tf.InstructBlipProcessor(image_processor, tokenizer, reader, num_query_tokens=4)
    positions = {"max_position_embeddings": POSITIONS, "vocab_size": len(reader)}
    return _blip("InstructBlip", tokenizer, processor, **positions)


def _got(name: str, tokenizer: Any, processor: Any) -> Built:
    vision = {
        "hidden_size": WIDTH,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 2 * SIDE,
        "patch_size": PATCH,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 2 * WIDTH,
    }
    config = getattr(tf, f"{name}Config")(
        vision_config=vision,
        text_config=tf.Qwen2Config(**llama_sizes(tokenizer)).to_dict(),
        image_token_index=id_of(tokenizer, "<imgpad>"),
        image_seq_length=4,
    )
    return built(tf.GotOcr2ForConditionalGeneration(config), processor)


GOT_SAYS = (
    "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail.<|im_end|>"
    "<|im_start|>user\n<img><chart></img>\n{prompt}<|im_end|><|im_start|>assistant\n|{answer}<|im_end|>"
)


@more(
    GOT_SAYS,
    r"(<imgpad>)+",
    quick=True,
    layout=GOT_SAYS.partition("|{answer}")[0].replace("<chart>", "<imgpad>"),
    arguments={"num_image_tokens": 4},
)
def got_ocr2() -> Built:
    tokenizer = im_tokenizer("<img>", "</img>", named={"image_token": "<imgpad>"})
    image_processor = tf.GotOcr2ImageProcessorPil(size={"height": 2 * SIDE, "width": 2 * SIDE})
    return _got("GotOcr2", tokenizer, tf.GotOcr2Processor(image_processor, tokenizer))


@more(GOT_SAYS, r"(<imgpad>)+")
def pp_chart2table() -> Built:
    tokenizer = im_tokenizer("<img>", "</img>", named={"image_token": "<imgpad>"})
    image_processor = tf.PPChart2TableImageProcessorPil(size={"height": 2 * SIDE, "width": 2 * SIDE})
    system = GOT_SAYS.partition("<|im_start|>user\n")[0]
    template = chat(
        "<img>" + "<imgpad>" * 4 + "</img>\n",
        user="<|im_start|>user\n",
        end_user="<|im_end|>",
        start="<|im_start|>assistant\n",
        end="<|im_end|>",
        first=system,
    )
    processor = tf.PPChart2TableProcessor(image_processor, tokenizer, chat_template=template)
    return _got("PPChart2Table", tokenizer, processor)


@more(
    "<bos>\n\n<chart>\n\n {question}<bos>|{answer}<eos>",
    r"<start_of_image>(<image_soft_token>)+<end_of_image>",
    "encoder-prompt",
    layout="<start_of_image> {prompt}",
)
def t5gemma2() -> Built:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    first = ("<pad>", "<eos>", "<bos>", "<unk>")
    tokenizer = tokenizer_of(*first, bos="<bos>", eos="<eos>", pad="<pad>", named=named, adds_bos=True)
    text = {
        **llama_sizes(tokenizer),
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    boi, eoi, image = (id_of(tokenizer, token) for token in named.values())
    encoder = {
        "text_config": text,
        "vision_config": tf.SiglipVisionConfig(**VISION, vision_use_head=False).to_dict(),
        "mm_tokens_per_image": 4,
        "boi_token_index": boi,
        "eoi_token_index": eoi,
        "image_token_index": image,
    }
    config = tf.T5Gemma2Config(encoder=encoder, decoder=text, image_token_index=image)
    image_processor = tf.Gemma3ImageProcessorPil(size=SQUARE, do_pan_and_scan=False)
    processor = tf.Gemma3Processor(image_processor, tokenizer, image_seq_length=4)
    return built(tf.T5Gemma2ForConditionalGeneration(config), processor, start=tokenizer.bos_token_id)


@more("<s>USER: <chart>\n{prompt} ASSISTANT: |{answer}</s>", r"(<image>)+")
def granite4_vision() -> Built:
    tokenizer = llama_tokenizer("<image>")
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    text = {**llama_sizes(tokenizer), "embedding_multiplier": 3.0, "attention_multiplier": 0.25}
    config = tf.Granite4VisionConfig(
        # The attention of its projectors has a head for 64 channels.
        vision_config=tf.SiglipVisionConfig(**{**VISION, "hidden_size": 64}, vision_use_head=False).to_dict(),
        text_config=text,
        image_token_index=id_of(tokenizer, "<image>"),
        vision_feature_select_strategy="full",
        image_grid_pinpoints=pinpoints,
        image_seq_length=PATCHES // 4,
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0]],
        spatial_vision_layer=-1,
        spatial_target_layers=[0, 1, 0, 1],
        projector_dropout=0.0,
        qformer_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 64,
            "encoder_hidden_size": 64,
            "cross_attention_frequency": 1,
            "max_position_embeddings": 64,
            "use_qformer_text_input": False,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    )
    image_processor = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=pinpoints
    )
    processor = tf.Granite4VisionProcessor(
        image_processor,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=chat("<image>\n", **VICUNA_PARTS),
    )
    return built(tf.Granite4VisionForConditionalGeneration(config), processor)


@more(IM_CHAT.replace("{chart}", "<chart>\n"), r"<image_id>0</image_id><image>.*</image>(<slice>.*</slice>)?")
def minicpmv4_6() -> Built:
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    tokenizer = im_tokenizer(named=named)
    text = tf.Qwen2Config(**llama_sizes(tokenizer)).to_dict()
    config = tf.MiniCPMV4_6Config(
        text_config=text,
        vision_config={**VISION, "image_size": 4 * SIDE, "insert_layer_id": 1},
        insert_layer_id=1,
        image_size=2 * SIDE,
        image_token_id=id_of(tokenizer, "<|image_pad|>"),
        video_token_id=id_of(tokenizer, "<|video_pad|>"),
    )
    image_processor = tf.MiniCPMV4_6ImageProcessorPil(scale_resolution=2 * SIDE, patch_size=PATCH, max_slice_nums=4)
    template = chat("<|image_pad|>\n", **IM_TEMPLATE, end="<|im_end|>\n")
    processor = image_only(tf.MiniCPMV4_6Processor)(image_processor, None, tokenizer, chat_template=template)
    return built(tf.MiniCPMV4_6ForConditionalGeneration(config), processor)
