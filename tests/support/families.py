"""Tiny models of fifteen families with random weights, and drawn charts to train them on. Nothing is downloaded.

Each has its family's real classes, special tokens and chat template, at a width of 32 and about 50 thousand weights.
To add a family, write one function under `@family(kind)` that returns (model, processor).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers as tf
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from chartqa_ft.adapters.processors import image_only
from chartqa_ft.models.tiny import tiny_unichart

SIDE, PATCH, WIDTH, POSITIONS = 32, 8, 32, 1024
PATCHES = (SIDE // PATCH) ** 2
SQUARE = {"height": SIDE, "width": SIDE}
WEIGHT_STD = 0.08
"""At this width the usual 0.02 gives all but equal logits and attention, which hides mistakes and learns slowly."""

Built = tuple[torch.nn.Module, Any]
FAMILIES: dict[str, Callable[[], Built]] = {}
KINDS: dict[str, str] = {}


def family(kind: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Registers a builder under its function's name; `kind` is "decoder-prompt", "encoder-prompt" or "causal"."""

    def register(builder: Callable[[], Built]) -> Callable[[], Built]:
        FAMILIES[builder.__name__], KINDS[builder.__name__] = builder, kind
        return builder

    return register


def _builder(name: str) -> Callable[[], Built]:
    if name in FAMILIES:
        return FAMILIES[name]
    from .torchvision_families import MORE  # whose builders are made of parts of this module

    return MORE[name].build


@cache
def _built(name: str) -> Built:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = _builder(name)()
        _spread_weights(model)
    return model.eval(), processor


def build(name: str) -> Built:
    """A fresh copy of a family's tiny model (float32, evaluation mode, always the same weights), and its processor."""
    model, processor = _built(name)
    return copy.deepcopy(model), copy.deepcopy(processor)


@torch.no_grad()
def _spread_weights(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if weight.dim() < 2 and not weight.any() and "gate" in name:  # Mllama's: charts would make no difference
            weight.fill_(0.5)
        elif weight.dim() > 1 and not weight.any():  # Gemma3's projection: images would make no difference
            weight.normal_(std=WEIGHT_STD)
        elif weight.dim() > 1 and 0 < weight.std() < WEIGHT_STD:
            weight.mul_(WEIGHT_STD / weight.std())


# ---------------------------------------------------------------------------------------------------- records
COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220), "gray": (130, 130, 130)}
# The heights of the four bars, and the size of the chart: one tile or several, wide or high.
_CHARTS = (
    ((7, 2, 1, 6), (64, 48)),
    ((3, 9, 4, 8), (48, 64)),
    ((5, 8, 6, 1), (64, 32)),
    ((2, 1, 6, 7), (32, 32)),
    ((9, 4, 3, 2), (40, 64)),
    ((1, 8, 5, 6), (64, 64)),
)


def draw_bars(heights: tuple[int, ...], size: tuple[int, int]) -> Image.Image:
    """Colored bars on white; `size` is (width, height) in pixels, a height of 10 fills the chart."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    step = size[0] // len(heights)
    for index, (color, height) in enumerate(zip(COLORS.values(), heights, strict=True)):
        pen.rectangle([index * step + 1, size[1] * (10 - height) // 10, (index + 1) * step - 2, size[1] - 1], color)
    return image


def records(n: int = 4) -> list[dict[str, Any]]:
    """`n` records. Two on the first chart, and the first question again on another chart with another answer.

    Prompts and answers differ in length; charts in size and shape. From the seventh on, heights are shifted.
    """
    made = []
    for index in range(n):
        turn, place = divmod(index, 8)
        number = (0, 0, 1, 2, 3, 3, 4, 5)[place]
        heights, size = _CHARTS[number]
        heights = tuple((height + turn - 1) % 9 + 1 for height in heights)
        red, green, blue, _ = heights
        share = f"{100 * blue / sum(heights):.1f} %"
        tallest = "Yes, it is" if green == max(heights) else "No"
        questions = (
            ("How tall is the red bar?", str(red)),
            ("What share of the sum of all four bars does the blue bar take, in percent with one decimal?", share),
            ("How tall is the red bar?", str(red)),
            ("Is the green bar the tallest one?", tallest),
            ("Is the green bar the tallest one?", tallest),
            ("Blue: what percentage?", share),
            ("Which value does the green bar of this chart have?", str(green)),
            ("Is the green bar the tallest one?", tallest),
        )
        question, answer = questions[place]
        made.append(
            {
                "image": draw_bars(heights, size),
                "question": question,
                "answer": answer,
                "source": "augmented" if answer.isdigit() else "human",
                "chart_id": f"bars-{turn}-{number}",
            }
        )
    return made


# ---------------------------------------------------------------------------------------------------- tokenizers
_TEXT = """
    How tall is the red green blue gray bar? What share of the sum of all four bars does the blue bar take, in percent
    with one decimal? Is the green bar the tallest one? Which value does this chart have? percentage? Yes, it is No
    USER: ASSISTANT: User: Assistant: system user assistant model Question: Answer: You are a helpful assistant.
    0 1 2 3 4 5 6 7 8 9 10 12.5 % 25.0 % 100.0 %
"""


def tokenizer_of(
    *first: str,
    special: tuple[str, ...] = (),
    named: dict[str, str] | None = None,
    bos: str | None = None,
    eos: str,
    pad: str,
    adds_bos: bool = False,
    padding_side: str = "right",
    tokenizer_class: type = tf.PreTrainedTokenizerFast,
) -> Any:
    """A byte-level tokenizer of some 350 tokens that encodes any text.

    Args:
        first: the tokens of the lowest ids, in order. `<unk>` must be one of them.
        special: special tokens after the ordinary ones.
        named: special tokens that are attributes of the tokenizer too (`tokenizer.image_token`).
        adds_bos: whether `bos` stands before every text.
    """
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = bytewise
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(first) + 330,
        special_tokens=list(first),
        initial_alphabet=bytewise.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_TEXT] * 4, trainer)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = tokenizer_class(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        unk_token="<unk>",
        extra_special_tokens=named or {},
        padding_side=padding_side,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    added = [*special, *(named or {}).values()]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in added], special_tokens=True)
    return tokenizer


def token_ids(tokenizer: Any) -> dict[str, int | None]:
    """The ids that configurations of text models want."""
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def set_generation(model: torch.nn.Module, tokenizer: Any, start: int | None = None) -> None:
    """What a checkpoint's generation_config.json holds: ids, and the sampling and penalties that many bring along."""
    config = model.generation_config
    config.update(**token_ids(tokenizer), do_sample=True, temperature=0.7, top_p=0.9, top_k=20)
    config.update(repetition_penalty=1.05, no_repeat_ngram_size=3)
    if start is not None:
        config.decoder_start_token_id = start


# ---------------------------------------------------------------------------------------------------- parts
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 3,  # LLaVA reads the last but one
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def llama_sizes(tokenizer: Any) -> dict[str, Any]:
    """The sizes of a text model that is built like LLaMA, as arguments of its configuration."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": POSITIONS,
        **token_ids(tokenizer),
    }


def bart_sizes(tokenizer: Any) -> dict[str, Any]:
    """The sizes of a text model that is built like BART; dropout is off."""
    return {
        "vocab_size": len(tokenizer),
        "d_model": WIDTH,
        "encoder_layers": 2,  # a decoder alone has a KV cache of this many layers
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "dropout": 0.0,
        "forced_eos_token_id": None,
        **token_ids(tokenizer),
    }


# ---------------------------------------------------------------------------------------------------- decoder prompt
@family("decoder-prompt")
def unichart() -> Built:
    return tiny_unichart("test", image_size=64, window_size=4, decoder_layers=2, init_std=WEIGHT_STD)


def _pair(encoder: Any, decoder: Any, tokenizer: Any) -> torch.nn.Module:
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.update({**token_ids(tokenizer), "decoder_start_token_id": tokenizer.bos_token_id})
    model = tf.VisionEncoderDecoderModel(config)
    set_generation(model, tokenizer, start=tokenizer.bos_token_id)
    return model


@family("decoder-prompt")
def nougat() -> Built:
    tokenizer = tokenizer_of(
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        special=("<chartqa>", "<s_answer>"),
        tokenizer_class=tf.NougatTokenizer,
    )
    encoder = tf.DonutSwinConfig(
        image_size=[64, 64], patch_size=8, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    encoder.drop_path_rate = 0.0
    decoder = tf.MBartConfig(
        **bart_sizes(tokenizer),
        is_decoder=True,
        add_cross_attention=True,
        scale_embedding=True,
        add_final_layer_norm=True,
    )
    image_processor = tf.NougatImageProcessorPil(size={"height": 64, "width": 64}, do_crop_margin=False)
    return _pair(encoder, decoder, tokenizer), tf.NougatProcessor(image_processor, tokenizer)


@family("decoder-prompt")
def trocr() -> Built:
    tokenizer = tokenizer_of("<s>", "<pad>", "</s>", "<unk>", bos="<s>", eos="</s>", pad="<pad>")
    sizes = {key: value for key, value in bart_sizes(tokenizer).items() if not key.startswith("encoder")}
    encoder = tf.ViTConfig(**VISION, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = _pair(encoder, tf.TrOCRConfig(**sizes, cross_attention_hidden_size=WIDTH), tokenizer)
    return model, tf.TrOCRProcessor(tf.ViTImageProcessorPil(size=SQUARE), tokenizer)


# ---------------------------------------------------------------------------------------------------- encoder prompt
@family("encoder-prompt")
def pix2struct() -> Built:
    tokenizer = tokenizer_of("<pad>", "</s>", "<unk>", eos="</s>", pad="<pad>")
    sizes = {"hidden_size": WIDTH, "d_kv": 16, "d_ff": 2 * WIDTH, "dropout_rate": 0.0}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "is_decoder": True,
        "use_cache": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **sizes,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_embed_hidden_size": 3 * 16 * 16,
        "seq_len": 256,
        "attention_dropout": 0.0,
    }
    config = tf.Pix2StructConfig(text_config=text, vision_config=vision, is_vqa=True)
    model = tf.Pix2StructForConditionalGeneration(config)
    set_generation(model, tokenizer, start=tokenizer.pad_token_id)
    return model, tf.Pix2StructProcessor(tf.Pix2StructImageProcessorPil(is_vqa=True, max_patches=48), tokenizer)


@family("encoder-prompt")
def florence2() -> Built:
    tokenizer = tokenizer_of(
        "<s>", "<pad>", "</s>", "<unk>", bos="<s>", eos="</s>", pad="<pad>", named={"image_token": "<image>"}
    )
    wrap = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=wrap
    )
    vision = {
        "depths": [1, 1],
        "embed_dim": [16, 32],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "window_size": 2,
        "projection_dim": WIDTH,
        "drop_path_rate": 0.0,
        "max_position_embeddings": 8,
        "max_temporal_embeddings": 4,
    }
    config = tf.Florence2Config(
        text_config={**bart_sizes(tokenizer), "decoder_start_token_id": tokenizer.eos_token_id},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = tf.Florence2ForConditionalGeneration(config)
    set_generation(model, tokenizer, start=tokenizer.eos_token_id)
    image_processor = tf.CLIPImageProcessorPil(size=SQUARE, do_center_crop=False)
    image_processor.image_seq_length = (SIDE // 8) ** 2 + 1  # a token per patch and their mean
    return model, tf.Florence2Processor(image_processor, tokenizer)


# ---------------------------------------------------------------------------------------------------- decoder only
VICUNA_CHAT = """
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- 'USER: ' }}
        {%- for part in message.content if part.type == 'image' %}{{ '<image>\\n' }}{% endfor %}
        {%- for part in message.content if part.type == 'text' %}{{ part.text + ' ' }}{% endfor %}
    {%- else %}
        {{- 'ASSISTANT: ' }}
        {%- for part in message.content %}{{ part.text + ' ' }}{% endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

MISTRAL_CHAT = """
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' }}
        {%- for part in message.content %}{{ '<image>\\n' if part.type == 'image' else part.text }}{% endfor %}
        {{- ' [/INST]' }}
    {%- else %}
        {%- for part in message.content %}{{ ' ' + part.text }}{% endfor %}{{ eos_token }}
    {%- endif %}
{%- endfor %}"""

CHATML = """
{%- for message in messages %}
    {%- if loop.first and SYSTEM and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- for part in message.content %}{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

IDEFICS_CHAT = """
{{- bos_token }}
{%- for message in messages %}
    {{- message.role | capitalize + (':' if message.content[0].type == 'image' else ': ') }}
    {%- for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}
    {{- '<end_of_utterance>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

GEMMA_CHAT = """
{{- bos_token }}
{%- for message in messages %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {%- for part in message.content %}
        {{- '<start_of_image>' if part.type == 'image' else part.text | trim }}
    {%- endfor %}
    {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""


def chatml(image: str, *, system: bool) -> str:
    return CHATML.replace("IMAGE", f"'{image}'").replace("SYSTEM", str(system).lower())


def _llava_tokenizer(padding_side: str = "left") -> Any:
    return tokenizer_of(
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        special=("<image>",),
        adds_bos=True,
        padding_side=padding_side,
    )


LLAVA_PROCESSOR = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


@family("causal")
def llava() -> Built:
    tokenizer = _llava_tokenizer()
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**VISION),
        text_config=tf.LlamaConfig(**llama_sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    image_processor = tf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    processor = tf.LlavaProcessor(image_processor, tokenizer, chat_template=VICUNA_CHAT, **LLAVA_PROCESSOR)
    model = tf.LlavaForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor


@family("causal")
def llava_next() -> Built:
    tokenizer = _llava_tokenizer()
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    config = tf.LlavaNextConfig(
        vision_config=tf.CLIPVisionConfig(**VISION),
        text_config=tf.MistralConfig(**llama_sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    image_processor = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=pinpoints
    )
    processor = tf.LlavaNextProcessor(image_processor, tokenizer, chat_template=MISTRAL_CHAT, **LLAVA_PROCESSOR)
    model = tf.LlavaNextForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor


@family("causal")
def kosmos2() -> Built:
    image_tokens = 8
    # The ids after <unk> stand for the places of an image.
    reserved = [f"<reserved_{index}>" for index in range(image_tokens)]
    tokenizer = tokenizer_of("<s>", "<pad>", "</s>", "<unk>", *reserved, bos="<s>", eos="</s>", pad="<pad>")
    processor = tf.Kosmos2Processor(
        tf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE), tokenizer, num_patch_index_tokens=16
    )
    text = {
        "vocab_size": len(processor.tokenizer),
        "embed_dim": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "layers": 2,
        "attention_heads": 2,
        "max_position_embeddings": POSITIONS,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        **token_ids(tokenizer),
    }
    config = tf.Kosmos2Config(text_config=text, vision_config=VISION, latent_query_num=image_tokens)
    model = tf.Kosmos2ForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor


def _qwen(processor_class: type, config_class: type, model_class: type, *, system: bool, **differences: Any) -> Built:
    places = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    marks = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    tokenizer = tokenizer_of(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<unk>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        special=(*places.values(), *marks.values()),
        padding_side="left",
    )
    text = {
        **llama_sizes(tokenizer),
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 3,
        "hidden_size": WIDTH,
        "out_hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **differences,
    }
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in {**places, **marks}.items()}
    image_processor = tf.Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    )
    template = chatml("<|vision_start|><|image_pad|><|vision_end|>", system=system)
    processor = image_only(processor_class)(image_processor, tokenizer, None, chat_template=template)
    model = model_class(config_class(text_config=text, vision_config=vision, **ids))
    set_generation(model, tokenizer)
    return model, processor


@family("causal")
def qwen2_5_vl() -> Built:
    return _qwen(
        tf.Qwen2_5_VLProcessor,
        tf.Qwen2_5_VLConfig,
        tf.Qwen2_5_VLForConditionalGeneration,
        system=True,
        window_size=32,
        fullatt_block_indexes=[1],
    )


@family("causal")
def qwen3_vl() -> Built:
    return _qwen(
        tf.Qwen3VLProcessor,
        tf.Qwen3VLConfig,
        tf.Qwen3VLForConditionalGeneration,
        system=False,
        num_position_embeddings=64,
        deepstack_visual_indexes=[0],
    )


def _idefics(
    processor_class: type,
    image_processor_class: type,
    config_class: type,
    model_class: type,
    *,
    bos: str,
    **parts: Any,
) -> Built:
    tiles = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
    special = ("<fake_token_around_image>", "<image>", "<global-img>", "<video>", *tiles)
    tokenizer = tokenizer_of(
        bos, "<pad>", "<end_of_utterance>", "<unk>", bos=bos, eos="<end_of_utterance>", pad="<pad>", special=special
    )
    config = config_class(
        vision_config=VISION,
        text_config=tf.LlamaConfig(**llama_sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    image_processor = image_processor_class(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=True
    )
    processor = processor_class(
        image_processor=image_processor,
        tokenizer=tokenizer,
        image_seq_len=PATCHES // 4,
        chat_template=IDEFICS_CHAT,
        **parts,
    )
    model = model_class(config)
    set_generation(model, tokenizer)
    return model, processor


@family("causal")
def idefics3() -> Built:
    return _idefics(
        tf.Idefics3Processor,
        tf.Idefics3ImageProcessorPil,
        tf.Idefics3Config,
        tf.Idefics3ForConditionalGeneration,
        bos="<|begin_of_text|>",
    )


@family("causal")
def smolvlm() -> Built:
    return _idefics(
        image_only(tf.SmolVLMProcessor),
        tf.SmolVLMImageProcessorPil,
        tf.SmolVLMConfig,
        tf.SmolVLMForConditionalGeneration,
        bos="<|im_start|>",
        video_processor=None,
    )


@family("causal")
def paligemma() -> Built:
    tokenizer = tokenizer_of(
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        named={"image_token": "<image>"},
        adds_bos=True,
    )
    image_processor = tf.SiglipImageProcessorPil(size=SQUARE)
    image_processor.image_seq_length = PATCHES
    processor = tf.PaliGemmaProcessor(image_processor, tokenizer)  # adds tokens for places, before they are counted
    config = tf.PaliGemmaConfig(
        text_config=tf.GemmaConfig(**llama_sizes(tokenizer), head_dim=16),
        vision_config=tf.SiglipVisionConfig(**VISION, projection_dim=WIDTH, vision_use_head=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )
    model = tf.PaliGemmaForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor


@family("causal")
def gemma3() -> Built:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_of(
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        special=("<start_of_turn>", "<end_of_turn>"),
        named=named,
        adds_bos=True,
        padding_side="left",
    )
    text = tf.Gemma3TextConfig(
        **llama_sizes(tokenizer),
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
    )
    boi, eoi, image = (tokenizer.convert_tokens_to_ids(token) for token in named.values())
    config = tf.Gemma3Config(
        text_config=text,
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        mm_tokens_per_image=4,
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
    )
    model = tf.Gemma3ForConditionalGeneration(config)
    set_generation(model, tokenizer)
    end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_turn]
    image_processor = tf.Gemma3ImageProcessorPil(size=SQUARE, do_pan_and_scan=False)
    return model, tf.Gemma3Processor(image_processor, tokenizer, chat_template=GEMMA_CHAT, image_seq_length=4)


@family("causal")
def internvl() -> Built:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = tokenizer_of(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<unk>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        named=named,
        padding_side="left",
    )
    config = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(**{**VISION, "image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}),
        text_config=tf.Qwen2Config(**llama_sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=PATCHES // 4,
        downsample_ratio=0.5,
    )
    image_processor = tf.GotOcr2ImageProcessorPil(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    processor = image_only(tf.InternVLProcessor)(
        image_processor,
        tokenizer,
        None,
        image_seq_length=PATCHES // 4,
        chat_template=chatml("<IMG_CONTEXT>\\n", system=False),
    )
    model = tf.InternVLForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor
