"""Updates and reported losses are those of the tokens, however rows are batched, ordered, padded or accumulated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from chartqa_ft.adapters import adapter_for
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.training.losses import answer_logits_only, sum_by_row, token_losses

from ..support.common import Gradients, arguments, drawn_charts, relative_l2, tiny, trainer
from ..support.encoding import PAIRS, pair
from ..support.families import build
from ..support.families import records as bars

SPLITS = [(8, 1), (4, 2), (2, 4), (1, 8)]


def eight_rows(order=None):
    records = [{**record} for record in drawn_charts().select(range(8))]
    for row, answer in enumerate(["7", "no, not at all", "12.5 %", "Yes"]):
        records[row]["answer"] = answer
    return [records[i] for i in order] if order else records


def gradient(tmp_path, size, accumulation, records=None, **changes):
    capture = Gradients()
    run = trainer(
        tmp_path,
        records=records or eight_rows(),
        callbacks=[capture],
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        **changes,
    )
    run.train()
    return capture.vector, run.state.log_history[0]["loss"]


@pytest.fixture(scope="module")
def reference():
    """The gradient of the mean over all answer tokens, written plainly: one batch, one row per chart, full logits."""
    model, processor = tiny()
    batch = adapter_for(model, processor).encode(eight_rows())
    logits = model.train()(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
    loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    loss.backward()
    vector = torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])
    return vector, loss.item()


@pytest.mark.parametrize(("size", "accumulation"), SPLITS)
@pytest.mark.parametrize("group_by_chart", [True, False])
def test_update_equality(tmp_path, reference, size, accumulation, group_by_chart):
    vector, loss = gradient(tmp_path, size, accumulation, group_by_chart=group_by_chart)
    assert relative_l2(vector, reference[0]) <= 1e-6
    assert loss == pytest.approx(reference[1], rel=1e-6)


@pytest.mark.parametrize("order", [[7, 6, 5, 4, 3, 2, 1, 0], [1, 4, 0, 7, 2, 5, 3, 6]])
def test_order_and_padding_do_not_matter(tmp_path, reference, order):
    vector, _ = gradient(tmp_path, 2, 4, eight_rows(order), train_sampling_strategy="sequential")
    assert relative_l2(vector, reference[0]) <= 1e-6


def test_gradient_checkpointing_gives_the_same_update(tmp_path, reference):
    vector, _ = gradient(tmp_path, 4, 2, activation_checkpointing=True)
    assert relative_l2(vector, reference[0]) <= 1e-6


@pytest.mark.long
def test_compiled_models_get_the_same_update(tmp_path, reference):
    vector, loss = gradient(tmp_path, 4, 2, torch_compile=True, torch_compile_backend="aot_eager")
    assert relative_l2(vector, reference[0]) <= 1e-6
    assert loss == pytest.approx(reference[1], rel=1e-6)


@pytest.mark.parametrize("decoder", PAIRS)
def test_other_pairs_get_the_same_update_however_rows_are_split(tmp_path, decoder):
    vectors = []
    for size, accumulation in [(8, 1), (2, 4)]:
        model, processor = pair(decoder)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        adapter = adapter_for(model, processor, prompt="Q: {question} A:")
        vector, _ = gradient(tmp_path, size, accumulation, model=model, adapter=adapter)
        vectors.append(vector)
    assert relative_l2(*vectors) <= 1e-6


def test_plain_seq2seq_trainer_is_wrong_by_the_accumulation(tmp_path, reference):
    """huggingface/transformers#47688: the plain trainer's update grows with the number of accumulated batches."""
    norms = {}
    for size, accumulation in [(8, 1), (1, 8)]:
        model, processor = tiny()
        capture = Gradients()
        Seq2SeqTrainer(
            model,
            Seq2SeqTrainingArguments(
                str(tmp_path),
                max_steps=1,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation,
                max_grad_norm=0.0,
                remove_unused_columns=False,
                use_cpu=True,
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=eight_rows(),
            data_collator=adapter_for(model, processor).encode,
            callbacks=[capture],
        ).train()
        norms[size, accumulation] = capture.vector.norm() / reference[0].norm()
    assert norms[8, 1] == pytest.approx(1.0, abs=1e-5)
    assert norms[1, 8] > 6


def test_label_smoothing_is_that_of_answer_tokens(tmp_path):
    model, processor = tiny()
    batch = adapter_for(model, processor).encode(eight_rows())
    logits = model(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
    kept = batch["labels"] != -100
    wanted = F.cross_entropy(logits[kept], batch["labels"][kept], label_smoothing=0.1).item()
    _, loss = gradient(tmp_path, 2, 4, label_smoothing_factor=0.1)
    assert loss == pytest.approx(wanted, rel=1e-6)


def test_logits_only_at_answer_positions():
    model, processor = tiny()
    batch = adapter_for(model, processor).encode(eight_rows())
    mask = batch["labels"] != -100
    inputs = {key: batch[key] for key in ("pixel_values", "decoder_input_ids")}
    full = model(**inputs).logits
    with answer_logits_only(model, mask):
        selected = model(**inputs).logits
    assert selected.shape == (1, int(mask.sum()), full.shape[-1])
    torch.testing.assert_close(selected[0], full[mask])
    assert model(**inputs).logits.shape == full.shape
    # As a model that puts the positions of the chart before those of the text.
    wrong = r"logits for \(8, \d+\) positions of a batch of 8 x \d+ tokens .* cannot be trained"
    with answer_logits_only(model, mask[:, 3:]), pytest.raises(ValueError, match=wrong):
        model(**inputs)


def test_token_losses_and_row_sums_are_exact():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    losses = token_losses(logits, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(losses, torch.tensor([0.6931472, 0.1269280, 0.3132617]))
    assert token_losses(logits.double(), torch.tensor([0, 0, 1])).dtype == torch.float64
    assert token_losses(logits.bfloat16(), torch.tensor([0, 0, 1])).dtype == torch.float32
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    sums = sum_by_row(losses, mask)
    torch.testing.assert_close(sums, torch.tensor([0.8200752, 0.0, 0.3132617], dtype=torch.float64))


def test_reported_losses_are_means_over_tokens_not_over_batches(tmp_path):
    """With a learning rate of 0 the loss over an epoch is a fixed number: the mean over all of its answer tokens."""
    model, processor = tiny()
    records = [
        {**r, "answer": "one two three four" if i == 10 else r["answer"]} for i, r in enumerate(drawn_charts())
    ][:11]
    collate = ChartQACollator(adapter_for(model, processor), group_by_chart=False)
    batch = collate(records)
    with torch.no_grad():
        logits = model(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
    kept = batch["labels"] != -100
    wanted = F.cross_entropy(logits[kept].double(), batch["labels"][kept]).item()
    run = trainer(
        tmp_path,
        records=records,
        eval_dataset=records,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=3,
        max_steps=6,
        learning_rate=0.0,
        logging_steps=6,
    )
    output = run.train()
    assert run.state.log_history[0]["loss"] == pytest.approx(wanted, rel=1e-6)
    assert output.training_loss == output.metrics["train_loss"] == pytest.approx(wanted, rel=1e-6)
    assert run.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-6)


def test_a_step_without_any_answer_token_changes_nothing(tmp_path):
    run = trainer(tmp_path)
    batch = run._collators["train"](eight_rows())
    batch["labels"][:] = -100
    loss = run.compute_loss(run.model, batch, num_items_in_batch=torch.tensor(0))
    assert loss.item() == 0.0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in run.model.parameters())


def test_a_share_of_the_tokens_on_two_ranks_needs_average_tokens(tmp_path):
    with pytest.raises(ValueError, match="average_tokens_across_devices=False makes the update depend"):
        arguments(tmp_path, average_tokens_across_devices=False)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "florence2"])
def test_charts_in_16_bits_are_taken_by_a_model_in_32(name, tmp_path, monkeypatch):
    """Llama 4's processor returns bfloat16."""
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model, processor = build(name)
        adapter = adapter_for(model, processor, prompt="{question}")
        upstream = adapter.prompt_batch

        def prompt_batch(examples, images, upstream=upstream, dtype=dtype):
            batch = upstream(examples, images)
            return {**batch, "pixel_values": batch["pixel_values"].bfloat16().to(dtype)}

        monkeypatch.setattr(adapter, "prompt_batch", prompt_batch)
        run = trainer(tmp_path / str(dtype), model=model, adapter=adapter, records=bars(2), max_steps=1)
        run.train()
        assert len(run.predict(bars(2)).predictions) == 2
        losses.append(run.state.log_history[0]["loss"])
    assert losses[0] == losses[1]
