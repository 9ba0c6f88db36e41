"""The questions of a chart train as one sequence, with the loss and gradients of separate rows."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from PIL import Image

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.sharing.packing import PROVEN
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.rows import ROW_KEY, RowKey
from chartqa_ft.training.losses import token_losses
from chartqa_ft.training.trainer import ChartQATrainer

from ...support.common import Gradients, relative_l2
from ...support.families import FAMILIES, KINDS, build, records
from ...support.family_cases import ready, run_of

torch.set_num_threads(1)

PACKING = ("llava", "llava_next", "idefics3", "smolvlm", "internvl")


def examples() -> list[dict]:
    """Eight questions on four charts: three, two, two and one; one of them is asked twice."""
    rows = records(7)
    share = {**rows[0], "question": "What share is it?", "answer": "12.5 %"}
    again = {**rows[2], "answer": "No, not at all"}
    return [rows[0], rows[2], rows[1], rows[4], share, rows[6], again, rows[5]]


def losses_and_gradient(model, adapter, batch) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    labels = batch["labels"]
    logits = model(**adapter.model_inputs(batch)).logits[adapter.label_mask(labels)]
    losses = token_losses(logits, labels[labels != -100])
    losses.mean().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_same_update(model, adapter, rows, packed) -> None:
    """`packed` holds `rows`, ordered by chart."""
    numbers, charts = ChartQACollator(adapter).distinct_charts(rows)
    order = sorted(range(len(rows)), key=numbers.__getitem__)
    plain = ChartQACollator(adapter, group_by_chart=False)([rows[row] for row in order])
    assert packed["input_ids"].shape == packed["labels"].shape == packed["position_ids"].shape
    assert len(packed["input_ids"]) == len(charts) < len(rows)
    assert "chart_index" not in packed
    expected, expected_gradient = losses_and_gradient(model, adapter, plain)
    found, gradient = losses_and_gradient(model, adapter, packed)
    assert expected.std() > 1e-2, "equal losses everywhere: the test could not fail"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float(found.double().mean()) == pytest.approx(float(expected.double().mean()), rel=1e-6)
    assert relative_l2(gradient, expected_gradient) <= 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", PACKING)
def test_packed_questions_give_the_losses_and_gradients_of_separate_rows(name, attention):
    model, processor = build(name)
    model.set_attn_implementation(attention)
    adapter = adapter_for(model, processor)
    adapter.attach(model)
    packed = ChartQACollator(adapter, pack_questions=True)(examples())
    sequences, length = packed["input_ids"].shape
    assert packed["attention_mask"].shape == (sequences, 1, length, length)
    assert packed["attention_mask"].dtype == (torch.bool if attention == "sdpa" else torch.float32)
    assert_same_update(model, adapter, examples(), packed)


def test_only_families_that_stay_exact_pack():
    models = [ready(name) for name in FAMILIES]
    can = [name for name, (_, adapter) in zip(FAMILIES, models, strict=True) if adapter.packs_questions]
    assert sorted(can) == sorted(PACKING)
    assert {model.config.model_type for model, adapter in models if adapter.packs_questions} == PROVEN
    for name in set(KINDS) - set(PACKING):
        with pytest.raises(ValueError, match="pack_questions=True needs group_by_chart"):
            ChartQACollator(ready(name)[1], pack_questions=True)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llava_next", {"sliding_window": 256}),
        ("llava_next", {"sliding_window": None, "layer_types": ["full_attention", "linear_attention"]}),
        ("internvl", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llava", {"rope_parameters": None}),
        ("llava", {"use_bidirectional_attention": True}),
        ("llava", {"_attn_implementation": "flash_attention_2"}),
    ],
)
def test_settings_that_packing_would_not_follow_turn_it_off(name, changes):
    model, processor = build(name)
    assert adapter_for(model, processor).packs_questions
    for key, value in changes.items():
        setattr(model.config.get_text_config(), key, value)
    assert not adapter_for(model, processor).packs_questions


def test_a_window_that_no_row_outgrows_changes_nothing():
    model, processor = build("llava_next")
    model.config.get_text_config().sliding_window = 256
    adapter = adapter_for(model, processor, max_length=256)
    assert adapter.packs_questions
    rows = examples()
    packed = ChartQACollator(adapter, pack_questions=True)(rows)
    assert packed["input_ids"].shape[1] > 256 > packed["position_ids"].max()
    assert_same_update(model, adapter, rows, packed)


def test_a_sequence_may_be_longer_than_the_model_has_positions():
    model, processor = build("llava")
    rows = [{**row, "question": row["question"] * 3} for row in examples()]
    plain = ChartQACollator(adapter_for(model, processor))(rows)
    model.config.get_text_config().max_position_embeddings = positions = plain["input_ids"].shape[1] + 60
    adapter = adapter_for(model, processor)
    packed = ChartQACollator(adapter, pack_questions=True)(rows)
    assert packed["position_ids"].max() < positions < packed["input_ids"].shape[1]
    assert_same_update(model, adapter, rows, packed)


def test_what_a_packed_batch_holds():
    """The chart and the common prefix once, then each question with its answer; positions continue after the
    prefix."""
    _, adapter = ready("llava")
    (first, other), lone = records(2), records(3)[2]
    rows = [first, lone, other]
    plain = ChartQACollator(adapter)(rows)
    packed = ChartQACollator(adapter, pack_questions=True)(rows)
    assert list(packed) == ["input_ids", "labels", "position_ids", "attention_mask", "pixel_values"]
    assert torch.equal(packed["pixel_values"], plain["pixel_values"][:2])
    lengths = plain["attention_mask"].sum(dim=1).tolist()
    common = int((plain["input_ids"][0] != plain["input_ids"][2]).nonzero()[0])
    assert common > 16  # image tokens
    ids = torch.cat([plain["input_ids"][0, : lengths[0]], plain["input_ids"][2, common : lengths[2]]])
    assert torch.equal(packed["input_ids"][0], ids)
    positions = [*range(lengths[0]), *range(common, lengths[2])]
    assert packed["position_ids"][0].tolist() == positions
    assert torch.equal(packed["input_ids"][1, : lengths[1]], plain["input_ids"][1, : lengths[1]])
    mask = packed["attention_mask"][0, 0]
    last_of_first, last = lengths[0] - 1, len(ids) - 1
    assert mask[last_of_first].nonzero().flatten().tolist() == list(range(lengths[0]))
    assert mask[last].nonzero().flatten().tolist() == [*range(common), *range(lengths[0], len(ids))]
    assert packed["attention_mask"].any(dim=-1).all(), "attention to nothing is no number"


def test_filler_rows_count_for_nothing():
    model, adapter = ready("llava")
    rows = [{**row, ROW_KEY: RowKey(number, 0, True)} for number, row in enumerate(examples())]
    collate = ChartQACollator(adapter, pack_questions=True)
    tokens = int((collate(rows)["labels"] != -100).sum())
    rows[2] = {**rows[2], ROW_KEY: RowKey(2, 0, False)}
    own = len(adapter.answer_rows(rows[2:3])[0])
    packed = collate(rows)
    assert int((packed["labels"] != -100).sum()) == tokens - own
    plain = ChartQACollator(adapter)(rows)
    losses = [losses_and_gradient(model, adapter, batch) for batch in (plain, packed)]
    assert losses[1][0].mean().item() == pytest.approx(losses[0][0].mean().item(), rel=1e-6)
    assert relative_l2(losses[1][1], losses[0][1]) <= 1e-5
    for row in rows:
        row[ROW_KEY] = row[ROW_KEY]._replace(counts=False)
    assert (collate(rows)["labels"] == -100).all()


def test_batches_without_a_shared_chart_stay_as_they_are():
    _, adapter = ready("internvl")
    rows = [row for number, row in enumerate(records(6)) if number in (0, 2, 3)]
    plain, packed = ChartQACollator(adapter)(rows), ChartQACollator(adapter, pack_questions=True)(rows)
    assert plain.keys() == packed.keys()
    assert all(torch.equal(plain[key], packed[key]) for key in plain)


def test_a_chart_behind_the_question_or_with_other_pixels_stays_in_rows_of_its_own():
    _, adapter = ready("llava")
    collate = ChartQACollator(adapter, pack_questions=True)
    batch = ChartQACollator(adapter)(examples())
    other = copy.deepcopy(batch)
    other["pixel_values"][4] += 1.0  # the third question on the first chart
    packed = adapter.packed(other)
    assert packed["chart_index"].tolist() == [0, 0, 0, 1, 2, 3]
    assert torch.equal(packed["pixel_values"], other["pixel_values"][[0, 2, 4, 1, 3, 5]])
    adapter.chat_template = "{{ messages[0].content[1].text }} {{ '<image>' }} ASSISTANT:"
    behind = collate(examples()[:6])
    assert behind["attention_mask"].ndim == 2
    assert behind["chart_index"].tolist() == [0, 1, 0, 2, 0, 3]


# ------------------------------------------------------------------ the trainer
def trained(folder, name="llava", *, rows=None, **changes) -> tuple[torch.Tensor, list[float], ChartQATrainer]:
    """The gradient of the last step, the logged losses, and the trainer."""
    model, adapter = ready(name)
    capture = Gradients()
    settings = {"per_device_train_batch_size": 4, "generation_max_new_tokens": 4, **changes}
    run = run_of(folder, model, adapter, rows or examples(), callbacks=[capture], **settings)
    run.train()
    return capture.vector, [line["loss"] for line in run.state.log_history if "loss" in line], run


def test_two_steps_log_the_same_losses(tmp_path):
    packed, losses, run = trained(tmp_path, max_steps=2)
    plain, expected, _ = trained(tmp_path, max_steps=2, pack_questions=False)
    assert run._collators["train"].pack_questions
    assert not run._collators["eval"].pack_questions
    assert not run._collators["test"].pack_questions
    assert len(losses) == 2
    assert losses == pytest.approx(expected, rel=1e-6)
    assert relative_l2(packed, plain) <= 1e-5


@pytest.mark.parametrize("name", ["llava", "internvl"])
def test_updates_depend_on_no_split_and_no_order(tmp_path, name):
    changes = {"per_device_train_batch_size": 8, "pack_questions": False}
    expected, (loss,), _ = trained(tmp_path, name, **changes)
    for size, accumulation, rows in [(8, 1, examples()), (4, 2, examples()), (2, 4, examples()[::-1])]:
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        vector, losses, _ = trained(tmp_path, name, rows=rows, pack_questions=True, **changes)
        assert losses == pytest.approx([loss], rel=1e-6)
        assert relative_l2(vector, expected) <= 1e-5, f"{size} x {accumulation}"


@pytest.mark.parametrize(
    "changes",
    [{"activation_checkpointing": True}, {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"])}],
    ids=["checkpointing", "lora"],
)
def test_packing_with_checkpointing_and_adapters(tmp_path, changes):
    packed, losses, _ = trained(tmp_path, pack_questions=True, **copy.deepcopy(changes))
    plain, expected, _ = trained(tmp_path, pack_questions=False, **copy.deepcopy(changes))
    assert losses == pytest.approx(expected, rel=1e-6)
    assert relative_l2(packed, plain) <= 1e-5


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("qwen2_5_vl", {}, "the adapter 'causal' cannot for this model"),
        ("unichart", {}, "the adapter 'decoder-prompt' cannot for this model"),
        ("llava", {"group_by_chart": False}, "group_by_chart is off"),
        ("llava", {"torch_compile": True, "torch_compile_backend": "aot_eager"}, "torch_compile would"),
        ("llava", {"include_num_input_tokens_seen": "non_padding"}, "would count pairs of tokens"),
    ],
)
def test_packing_is_refused_where_it_is_not_possible_and_off_where_nobody_asked(tmp_path, name, changes, reason):
    model, adapter = ready(name)
    with pytest.raises(ValueError, match=f"pack_questions=True is not possible: .*{reason}"):
        run_of(tmp_path, model, adapter, examples(), pack_questions=True, **changes)
    model, adapter = ready(name)
    run = run_of(tmp_path, model, adapter, examples(), **changes)
    assert not run._collators["train"].pack_questions


def test_a_model_type_that_nobody_tested_is_packed_on_request_alone(tmp_path):
    model, adapter = ready("llava")
    args = run_of(tmp_path, model, adapter, examples()).args
    model.config.model_type = adapter.model_type = "vipllava"
    for asked, expected in [(None, False), (True, True)]:
        run = ChartQATrainer(model, replace(args, pack_questions=asked), train_dataset=examples(), adapter=adapter)
        assert run._collators["train"].pack_questions is expected


def test_a_loss_of_ones_own_gets_a_row_per_question(tmp_path):
    class Own(ChartQATrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            return super().compute_loss(model, inputs, *args, **kwargs)

    model, adapter = ready("llava")
    args = run_of(tmp_path, model, adapter, examples()).args
    for asked, expected in [(None, False), (True, True), (False, False)]:
        run = Own(model, replace(args, pack_questions=asked), train_dataset=examples(), adapter=adapter)
        assert run._collators["train"].pack_questions is expected


@pytest.mark.parametrize("name", PACKING)
def test_different_pictures_under_one_chart_id_are_not_packed(name):
    adapter = adapter_for(*build(name))
    first, other = records(2)[0], Image.new("RGB", (64, 48), "blue")
    rows = [first, {**first, "question": "What share?", "image": other}, {**first, "question": "How much?"}]
    collate = ChartQACollator(adapter, pack_questions=True)
    packed = collate(rows)
    assert len(packed["input_ids"]) == 2
    alone = [collate([row]) for row in rows]
    sizes = [len(batch["pixel_values"]) for batch in alone]
    assert torch.equal(packed["pixel_values"][: sizes[0]], alone[0]["pixel_values"])
    assert torch.equal(packed["pixel_values"][-sizes[1] :], alone[1]["pixel_values"])
