"""Models in 16 and 64 bits, routers with a loss of their own, and precision after training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from chartqa_ft import answer_questions, load_checkpoint
from chartqa_ft.training.checks.model import check_dtypes

from ...support.common import drawn_charts, tiny, trainer
from ...support.families import records
from ...support.family_cases import ready, run_of

KINDS = [torch.bfloat16, torch.float64, torch.float16]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("family", ["unichart", "pix2struct", "florence2", "qwen2_5_vl"])
def test_models_in_16_and_64_bits_are_trained_evaluated_and_asked(tmp_path, family, kind):
    model, adapter = ready(family)
    rows = records(4)
    run = run_of(tmp_path, model.to(kind), adapter, rows)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    run.train()
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {kind}
    assert any(not torch.equal(before[name], weight) for name, weight in model.named_parameters())
    metrics = run.evaluate()
    assert 0 < metrics["eval_loss"] < 20
    wanted = run.predict(rows).predictions.tolist()
    images, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    asked = answer_questions(model, adapter.processor, images, questions, adapter=adapter, max_new_tokens=12)
    assert asked == wanted


def test_a_family_that_fails_in_float64_is_refused(tmp_path):
    model, adapter = ready("kosmos2")
    with pytest.raises(ValueError, match=r"kosmos-2 in transformers fails in float64: use dtype=torch\.float32"):
        run_of(tmp_path, model.double(), adapter, records(4))


def test_the_loss_in_float64_is_that_of_float32(tmp_path):
    losses = []
    for kind in (torch.float32, torch.float64):
        model, adapter = ready("pix2struct")
        losses.append(run_of(tmp_path, model.to(kind), adapter, records(4)).evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_weights_in_float16_are_refused_with_a_gradient_scaler():
    arguments_of_a_gpu = SimpleNamespace(fp16=True)
    with pytest.raises(ValueError, match=r"weight is trained in float16.*dtype=torch.float32"):
        check_dtypes(torch.nn.Linear(2, 2).half(), arguments_of_a_gpu)
    check_dtypes(torch.nn.Linear(2, 2).half().requires_grad_(False), arguments_of_a_gpu)
    check_dtypes(torch.nn.Linear(2, 2), arguments_of_a_gpu)


@pytest.mark.parametrize("part", [None, "decoder"])
def test_the_loss_of_routers_is_refused(tmp_path, part):
    model, _ = tiny()
    (model.config if part is None else getattr(model.config, part)).output_router_logits = True
    name = "config" if part is None else f"config.{part}"
    with pytest.raises(ValueError, match=rf"set model\.{name}\.output_router_logits = False"):
        trainer(tmp_path, model=model)


def test_answers_after_training_are_in_the_precision_of_the_saved_model(tmp_path):
    run = trainer(tmp_path, bf16=True, max_steps=2, learning_rate=0.05)
    run.train()
    run.save_model()
    rows = list(drawn_charts().select(range(6)))
    ask = {"images": [row["image"] for row in rows], "questions": [row["question"] for row in rows]}
    loaded, processor, _ = load_checkpoint(tmp_path)
    scores = {}
    for name, model in (("trained", run.model), ("loaded", loaded)):
        seen: list[torch.Tensor] = []
        handle = model.decoder.lm_head.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
        answers = answer_questions(model, processor, **ask, max_new_tokens=4)
        handle.remove()
        scores[name] = (answers, torch.cat([out[:, -1] for out in seen]))
    assert scores["trained"][0] == scores["loaded"][0]
    assert scores["trained"][1].dtype == torch.float32
    assert torch.equal(scores["trained"][1], scores["loaded"][1])
    # Training goes on in 16 bits.
    seen = []
    handle = run.model.decoder.lm_head.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    run.train()
    handle.remove()
    assert set(seen) == {torch.bfloat16}


def mixed(part, kind):
    model, _ = tiny()
    getattr(model, part).to(kind)
    return model


@pytest.mark.parametrize(("part", "kind"), [("encoder", torch.bfloat16), ("decoder", torch.float64)])
def test_weights_of_dtypes_that_do_not_fit_are_named_and_work_under_autocast(tmp_path, part, kind):
    run = trainer(tmp_path, model=mixed(part, kind), eval_dataset=drawn_charts().select(range(2)))
    name = str(kind).removeprefix("torch.")
    for call in (run.train, run.evaluate):
        with pytest.raises(ValueError, match=rf"weights in .*{name} \(such as {part}\..*: load it in one dtype"):
            call()
    assert run.state.global_step == 0
    if kind == torch.bfloat16:
        trainer(tmp_path, model=mixed(part, kind), bf16=True).train()


def test_a_model_without_trainable_weights_is_refused(tmp_path):
    run = trainer(tmp_path, model=tiny()[0].requires_grad_(False))
    (error,) = run.check("train").errors
    assert "none of the model's weights is trainable" in str(error)
    with pytest.raises(ValueError, match=r"call model\.requires_grad_\(True\), or pass peft_config="):
        run.train()
    run.model.decoder.requires_grad_(True)
    run.train()
