"""A record becomes exactly these tensors, and they become an answer again."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
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

from chartqa_ft.adapters import Adapter, DecoderPrompt, adapter_for, add_prompt_tokens, base_model, register_adapter
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.rows import CHART_KEY, ROW_KEY, RowKey

from ..support.common import drawn_charts, tiny

WHITE = Image.new("RGB", (96, 96), "white")
WHITE_VALUE, BLACK_VALUE = 0.0, -2.0
"""Of a pixel after the tiny processor's normalization (mean 1, standard deviation 0.5)."""


def example(question="What is the value of red?", answer="3", image=WHITE, **more):
    return {"image": image, "question": question, "answer": answer, "chart_id": "w", **more}


@pytest.fixture(scope="module")
def adapter():
    return adapter_for(*tiny())


def ids(adapter, text):
    return adapter.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_batch_is_prompt_answer_eos_shifted_by_one(adapter):
    examples = [example(), example("How many bars are there?", "12.5 %")]
    batch = adapter.encode(examples)
    eos, pad = adapter.tokenizer.eos_token_id, adapter.tokenizer.pad_token_id
    rows, answers = [], []
    for record in examples:
        prompt = ids(adapter, f"<chartqa> {record['question']} <s_answer>")
        answer = [*ids(adapter, f" {record['answer']}"), eos]
        rows.append(prompt + answer)
        answers.append(answer)
    width = max(map(len, rows)) - 1
    wanted_ids = [row[:-1] + [pad] * (width - len(row) + 1) for row in rows]
    wanted_labels = [
        [-100] * (len(row) - 1 - len(answer)) + answer + [-100] * (width - len(row) + 1)
        for row, answer in zip(rows, answers, strict=True)
    ]
    assert list(batch) == ["decoder_input_ids", "labels", "pixel_values"]
    assert batch["decoder_input_ids"].tolist() == wanted_ids
    assert batch["labels"].tolist() == wanted_labels
    assert batch["pixel_values"].shape == (2, 3, 96, 96)
    assert batch["pixel_values"].dtype == torch.float32
    assert torch.equal(batch["pixel_values"], torch.full((2, 3, 96, 96), WHITE_VALUE))
    assert adapter.decode(batch["labels"]) == ["3", "12.5 %"]


def test_batch_without_answers_is_the_prompt_and_its_mask(adapter):
    examples = [example(), example("How many bars are there?")]
    batch = adapter.encode(examples, with_answers=False)
    prompts = [ids(adapter, f"<chartqa> {e['question']} <s_answer>") for e in examples]
    assert [
        row[mask.bool()].tolist() for row, mask in zip(*(batch[k] for k in list(batch)[:2]), strict=True)
    ] == prompts
    assert (
        adapter.prompt_lengths(batch) == [len(p) for p in prompts] == adapter.prompt_lengths(adapter.encode(examples))
    )


def test_batch_goes_straight_into_the_model(adapter):
    model, _ = tiny()
    batch = adapter.encode([example()])
    assert torch.isfinite(model(**batch).loss)


def test_braces_in_a_question_stay_text_and_markers_are_refused(adapter):
    for question in ["What does <s_answer> mean?", "100 % </s> ?"]:
        with pytest.raises(ValueError, match="which is a control token of this model"):
            adapter.encode([example(question)])
    for question in ["Is {question} or {0} higher?", "Is a < b > c?"]:
        batch = adapter.encode([example(question)])
        assert adapter.decode(batch["labels"]) == ["3"]
        prompt = batch["decoder_input_ids"][0, : adapter.prompt_lengths(batch)[0]].tolist()
        assert prompt == ids(adapter, f"<chartqa> {question} <s_answer>")


def test_long_questions_are_cut_in_the_question_alone():
    adapter = adapter_for(*tiny(), max_length=30)
    question = "What is the value of red and " + "a very long tail " * 50 + "?"
    room = 30 - 30 // 4
    (prompt,) = adapter.encode([example(question)], with_answers=False)["decoder_input_ids"].tolist()
    assert room - 4 < len(prompt) <= room
    assert prompt[0] == ids(adapter, "<chartqa>")[0]
    text = adapter.tokenizer.decode(prompt)
    assert text.startswith("<chartqa> What is the value of red and")
    assert text.endswith("<s_answer>")
    short = adapter.encode([example()], with_answers=False)
    uncut = adapter_for(*tiny()).encode([example()], with_answers=False)
    assert torch.equal(short["decoder_input_ids"], uncut["decoder_input_ids"])


@pytest.mark.parametrize("answer", ["3", "Yes No", "value value value", "value " * 40])
def test_the_prompt_does_not_depend_on_the_answer(answer):
    question = "What is the value of red and " + "a very long tail " * 50 + "?"
    adapter = adapter_for(*tiny(), max_length=60, on_long_answer="warn")
    for asked in (question, "red?"):
        (alone,) = adapter.encode([example(asked)], with_answers=False)["decoder_input_ids"].tolist()
        batch = adapter.encode([example(asked, answer)])
        assert batch["decoder_input_ids"][0, : adapter.prompt_lengths(batch)[0]].tolist() == alone
        assert answer.startswith(adapter.decode(batch["labels"])[0])


def test_answers_that_do_not_fit_are_an_error_or_a_counted_warning(caplog):
    answer = "value " * 40
    with pytest.raises(
        ValueError, match=r"chart_id='w', question='What is .*: the answer takes \d+ tokens, \d+ are left"
    ):
        adapter_for(*tiny(), max_length=30).encode([example(answer=answer)])
    adapter = adapter_for(*tiny(), max_length=30, on_long_answer="warn")
    batch = adapter.encode([example(answer=answer), example(), example(answer=answer)])
    assert batch["decoder_input_ids"].shape[1] == 29
    assert "it is truncated (2 answers truncated so far in this process)" in caplog.text
    assert adapter.decode(batch["labels"])[1] == "3"


@pytest.mark.parametrize("answer", ["a</s>b", "a<s_answer>b", "<chartqa> 3", "3</s>", "a <pad> b"])
def test_answers_that_spell_special_tokens_are_refused(adapter, answer):
    with pytest.raises(
        ValueError, match=r"record \(chart_id='w'.*the answer '.*' holds '<.*correct or drop the record"
    ):
        adapter.encode([example(), example(answer=answer)])


def test_attached_models_keep_their_outputs_and_get_no_hook_twice():
    for model, processor in [tiny(), *(pair(decoder) for decoder in PAIRS)]:
        model.eval()
        adapter = adapter_for(model, processor, prompt="{question}")
        batch = adapter.encode([example()])
        settings = {"output_hidden_states": True}
        grid = model.encoder.config.model_type == "convnext"
        before = None if grid else (model(**batch, **settings), model(**batch, return_dict=False))
        for _ in range(2):
            adapter.attach(model)
        assert (len(model.encoder._forward_hooks), len(model.decoder._forward_pre_hooks)) == (1, 1)
        if grid:  # without our hook, the pair cannot run at all
            assert len(model(**batch, **settings).encoder_hidden_states) == 3
            continue
        after, plain = model(**batch, **settings), model(**batch, return_dict=False)
        assert torch.equal(after.logits, before[0].logits)
        assert len(plain) == len(before[1])
        assert torch.equal(plain[1], before[1][1])
        for one, other in zip(after.encoder_hidden_states, before[0].encoder_hidden_states, strict=True):
            assert torch.equal(one, other)


def test_the_model_is_found_inside_its_wrappers():
    model, _ = tiny()
    compiled = torch.compile(model, backend="eager")
    parallel = torch.nn.DataParallel(model)
    for wrapped in (model, compiled, parallel, torch.compile(parallel, backend="eager")):
        assert base_model(wrapped) is model


def test_records_are_not_changed_and_adapters_pickle(adapter):
    record = example(image=Image.new("RGBA", (40, 60), (255, 0, 0, 128)))
    before = {**record, "image": record["image"].copy()}
    again = pickle.loads(pickle.dumps(adapter))
    first, second = adapter.encode([record]), again.encode([record])
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert record == before


def test_missing_answers_images_and_broken_images_name_the_record(adapter, tmp_path):
    with pytest.raises(ValueError, match=r"record \(chart_id='w', question='What.*has no answer"):
        adapter.encode([example(answer=None)])
    with pytest.raises(ValueError, match=r"chart_id='w'.* has no image"):
        adapter.encode([example(image=None)])
    path = tmp_path / "broken.png"
    drawn_charts()[0]["image"].save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"chart_id='w'.*the image cannot be decoded"):
        adapter.encode([example(image=Image.open(path))])


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "CMYK", "1", "I;16"])
def test_every_image_mode_is_encoded(adapter, mode):
    image = Image.new("RGB", (50, 30), "white").convert(mode) if mode != "I;16" else Image.new(mode, (50, 30), 65535)
    pixels = adapter.encode([example(image=image)])["pixel_values"]
    assert pixels.max() == WHITE_VALUE
    assert pixels.shape == (1, 3, 96, 96)


def test_a_prompt_without_the_question_and_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"has no field \{question\}"):
        adapter_for(*tiny(), prompt="<chartqa> <s_answer>")
    with pytest.raises(ValueError, match="on_long_answer must be"):
        adapter_for(*tiny(), on_long_answer="drop")


# ---------------------------------------------------------------------- collator
def test_grouped_batch_encodes_each_chart_once(adapter):
    a, b = drawn_charts()[0]["image"], drawn_charts()[5]["image"]
    examples = [
        example(image=a, chart_id="a"),
        example("How many bars are there?", image=b, chart_id="b"),
        example("Which color is highest?", "red", image=a, chart_id="a"),
    ]
    grouped = ChartQACollator(adapter)(examples)
    plain = ChartQACollator(adapter, group_by_chart=False)(examples)
    assert next(iter(grouped)) == "decoder_input_ids"
    assert grouped["chart_index"].tolist() == [0, 1, 0]
    assert grouped["chart_index"].dtype == torch.int64
    assert grouped["pixel_values"].shape[0] == 2
    assert "chart_index" not in plain
    assert torch.equal(grouped["pixel_values"][grouped["chart_index"]], plain["pixel_values"])
    assert torch.equal(grouped["labels"], plain["labels"])


def test_only_rows_with_one_id_and_one_image_share_a_chart(adapter):
    red, blue = (Image.new("RGB", (96, 96), color) for color in ("red", "blue"))

    def charts(examples):
        batch = ChartQACollator(adapter)(examples)
        plain = ChartQACollator(adapter, group_by_chart=False)(examples)["pixel_values"]
        index = batch.get("chart_index", torch.arange(len(examples)))
        assert torch.equal(batch["pixel_values"][index], plain)
        return index.tolist()

    pictures = [red, blue, red.copy(), red]
    assert charts([example(image=image) for image in pictures]) == [0, 1, 0, 0]
    for nothing in (None, ""):
        assert charts([example(image=image, chart_id=nothing) for image in pictures]) == [0, 1, 2, 3]
    assert charts([{"image": image, "question": "?", "answer": "3"} for image in pictures]) == [0, 1, 2, 3]
    # the group that the loader verified goes before the id
    assert charts([example(image=i, **{CHART_KEY: g}) for i, g in zip(pictures, [5, 6, 5, 7], strict=True)]) == [
        0,
        1,
        0,
        2,
    ]


def test_rows_that_do_not_count_have_no_labels(adapter):
    examples = [
        example(source="human", row="mine", **{ROW_KEY: RowKey(*key)}) for key in [(4, 0, True), (0, 0, False)]
    ]
    batch = ChartQACollator(adapter, keep_rows=True)(examples)
    assert (batch["labels"][1] == -100).all()
    assert (batch["labels"][0] != -100).any()
    assert [row["index"] for row in batch["rows"]] == [4, -1]
    assert batch["rows"][0] == {
        "index": 4,
        "chart_id": "w",
        "question": "What is the value of red?",
        "answer": "3",
        "source": "human",
    }


def test_random_padding_depends_on_seed_epoch_and_row_alone(adapter):
    chart = Image.new("RGB", (96, 48), "white")

    def pixels(row, epoch, seed=0):
        collate = ChartQACollator(adapter, random_padding="seeded", seed=seed)
        return collate([example(image=chart, **{ROW_KEY: RowKey(row, epoch, True)})])["pixel_values"][0]

    first = pixels(3, 1)
    assert torch.equal(first, pixels(3, 1))
    white = (first == WHITE_VALUE).all(dim=0)
    top = int(white.any(dim=1).int().argmax())
    assert white[top : top + 48].all()
    assert (first[:, ~white] == BLACK_VALUE).all()
    assert int(white.sum()) == 96 * 48
    tops = {
        int((pixels(row, epoch, seed)[0] == WHITE_VALUE).any(dim=1).int().argmax())
        for row, epoch, seed in [(3, 1, 0), (4, 1, 0), (3, 2, 0), (3, 1, 1), (9, 9, 9)]
    }
    assert len(tops) > 1


def test_random_padding_without_row_keys_differs_from_chart_to_chart_and_repeats_with_the_seed(adapter):
    chart = Image.new("RGB", (96, 48), "white")

    def tops(seed):
        collate = ChartQACollator(adapter, random_padding="seeded", group_by_chart=False, seed=seed)
        batches = [collate([example(image=chart)] * 4)["pixel_values"] for _ in range(2)]
        return [int((p[0] == WHITE_VALUE).any(dim=1).int().argmax()) for p in torch.cat(batches)]

    assert len(set(tops(0))) > 4
    assert tops(0) == tops(0) != tops(1)


def test_worker_processes_place_charts_differently_and_repeat_with_the_seed(adapter):
    chart = Image.new("RGB", (96, 48), "white")
    collate = ChartQACollator(adapter, random_padding="seeded", group_by_chart=False)

    def tops():
        loader = DataLoader(
            [example(image=chart)] * 16,
            batch_size=4,
            collate_fn=collate,
            num_workers=2,
            generator=torch.Generator().manual_seed(0),
        )
        return [
            [int((p[0] == WHITE_VALUE).any(dim=1).int().argmax()) for p in batch["pixel_values"]] for batch in loader
        ]

    first = tops()
    assert first == tops()
    assert len({tuple(batch) for batch in first}) == 4


def test_rows_report_what_a_metric_reads(adapter):
    record = example(question_type="Factoid", year_flags=["NO"], source="human", **{ROW_KEY: RowKey(7, 0, True)})
    assert ChartQACollator(adapter, keep_rows=True)([record])["rows"] == [
        {
            "index": 7,
            "chart_id": "w",
            "question": "What is the value of red?",
            "answer": "3",
            "source": "human",
            "question_type": "Factoid",
            "year_flags": ["NO"],
        }
    ]


def test_images_that_the_processor_cannot_take_name_their_record(adapter):
    for size in [(1, 3000), (3000, 1), (0, 5)]:
        examples = [example(chart_id="fine"), example(chart_id="thin", image=Image.new("RGB", size))]
        wanted = rf"chart_id='thin'.*takes no image of {size[0]} x {size[1]} pixels"
        with pytest.raises(ValueError, match=wanted):
            adapter.encode(examples)
        with pytest.raises(ValueError, match=wanted):
            ChartQACollator(adapter, random_padding="seeded")(examples)


def test_an_own_family_is_told_what_sharing_charts_takes(adapter):
    class Bare(Adapter):
        name, default_prompt = "bare", "{question}"

        def encode(self, examples, *, with_answers=True):
            return {"labels": torch.zeros(len(examples), 1)}

        def generate(self, model, batch, **settings):
            raise AssertionError("not called")

    model, processor = tiny()
    bare = Bare(model, processor)
    assert list(ChartQACollator(bare)([example()])) == ["labels"]
    with pytest.raises(ValueError, match="random_padding needs an image processor"):
        ChartQACollator(bare, random_padding="seeded")
    bare.pads_charts = True
    with pytest.raises(ValueError, match=r"shares_encoder=True have: 'bare' has it False"):
        ChartQACollator(bare, random_padding="seeded")
    Bare.shares_encoder = True
    with pytest.raises(NotImplementedError, match="Bare has shares_encoder=True and must define encode_text"):
        ChartQACollator(bare)([example()])
    with pytest.raises(NotImplementedError, match="Bare has shares_encoder=True and must define encode_images"):
        bare.encode_images([])


def test_random_padding_leaves_the_charts_pixels_alone(adapter):
    chart = drawn_charts()[0]["image"].resize((96, 64))
    centred = adapter.encode([example(image=chart)])["pixel_values"][0]
    center = lambda rows, columns: (rows // 2, columns // 2)  # noqa: E731
    placed = adapter.encode_images([chart], offsets=[center])["pixel_values"][0]
    assert torch.equal(centred, placed)


def test_collator_refuses_what_the_adapter_cannot_do():
    model, processor = pair("gpt2")
    adapter = adapter_for(model, processor, prompt="{question}")
    with pytest.raises(ValueError, match="random_padding needs an image processor that pads"):
        ChartQACollator(adapter, random_padding="seeded")
    with pytest.raises(ValueError, match="random_padding must be"):
        ChartQACollator(adapter, random_padding="always")


# ---------------------------------------------------------------------- other encoder/decoder pairs
PAIRS = ["gpt2", "bert", "bart"]


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


@pytest.mark.parametrize("decoder", PAIRS)
def test_pairs_train_with_the_start_token_that_generation_prepends(decoder):
    model, processor = pair(decoder)
    adapter = adapter_for(model, processor, prompt="Question: {question} Answer:")
    adapter.attach(model)
    examples = [example(), example("How many bars are there?", "12")]
    batch = adapter.encode(examples)
    assert batch["decoder_input_ids"][:, 0].tolist() == [processor.tokenizer.bos_token_id] * 2
    with torch.no_grad():
        logits = model(**batch).logits
        lengths = adapter.prompt_lengths(batch)
        first = [int(logits[row, length - 1].argmax()) for row, length in enumerate(lengths)]
        generated = adapter.generate(model, batch, max_new_tokens=1)
    assert generated[:, 0].tolist() == first


def test_missing_markers_ask_for_a_prompt_or_are_added_on_request():
    model, processor = pair("bert")
    vocabulary = processor.tokenizer
    vocabulary.backend_tokenizer  # noqa: B018 - a fast tokenizer is what the markers are looked up in
    plain = copy.deepcopy(processor)
    plain.tokenizer = WithoutMarkers(plain.tokenizer)
    with pytest.raises(ValueError, match=r"<chartqa> and <s_answer> of the prompt .* pass prompt="):
        adapter_for(model, plain)
    assert adapter_for(model, plain, prompt="{question}").prompt == "{question}"


class WithoutMarkers:
    """A tokenizer whose vocabulary lacks the markers."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def get_vocab(self):
        return {k: v for k, v in self._tokenizer.get_vocab().items() if k not in ("<chartqa>", "<s_answer>")}


def test_a_cache_too_small_for_generation_is_refused_with_the_mend():
    model, processor = tiny(decoder_layers=2)
    model.config.decoder.encoder_layers = 1
    with pytest.raises(ValueError, match=r"set model\.config\.decoder\.encoder_layers = 2"):
        adapter_for(model, processor)
    model.config.decoder.encoder_layers = 2
    assert adapter_for(model, processor).generate(
        model, adapter_for(model, processor).encode([example()]), max_new_tokens=2
    ).shape == (1, 2)


def test_added_markers_grow_the_decoder_alone():
    model, processor = tiny()
    assert add_prompt_tokens(model, processor) == 0
    before = len(processor.tokenizer)
    processor.tokenizer.add_tokens(["<another>"])
    add_prompt_tokens(model, processor)
    assert model.decoder.get_input_embeddings().num_embeddings == before + 1
    assert model.config.decoder.vocab_size == before + 1
    adapter = adapter_for(model, processor, prompt="<another> {question} <s_answer>")
    assert torch.isfinite(model(**adapter.encode([example()])).loss)


# ---------------------------------------------------------------------- detection
def test_unknown_decoder_only_models_say_what_to_write():
    model, processor = tiny()
    model.config.model_type = "unheard-of"
    model.config.is_encoder_decoder = False
    with pytest.raises(
        ValueError, match=r"'unheard-of' model has no chat template.*\n@register_adapter\('unheard-of'"
    ):
        adapter_for(model, processor)


def test_register_adapter_takes_an_own_family():
    @register_adapter("my-own-family")
    class Own(DecoderPrompt):
        name = "own"

    model, processor = tiny()
    model.config.model_type = "my-own-family"
    assert isinstance(adapter_for(model, processor), Own)
