"""Every method of PEFT: refused by name before the first step, or trained, saved, loaded and merged alike."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from types import SimpleNamespace

import peft
import pytest
import torch
from packaging.version import Version
from peft import LoraConfig, PeftConfig, PeftType, TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from chartqa_ft import answer_questions, default_lora_config, load_checkpoint
from chartqa_ft.adapters import base_model
from chartqa_ft.models.peft_types import PEFT_METHODS, check_active_methods, check_peft_config
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import arguments, drawn_charts

LAYERS = {"target_modules": ["q_proj", "v_proj"]}
TOKENS = {"num_virtual_tokens": 2, "task_type": TaskType.CAUSAL_LM}
SETTINGS = {
    "ADALORA": {**LAYERS, "total_step": 4},
    "ADAPTION_PROMPT": {"adapter_len": 2, "adapter_layers": 1},
    "BOFT": {**LAYERS, "boft_block_size": 4},
    "C3A": {**LAYERS, "block_size": 4},
    "CARTRIDGE": TOKENS,
    "CPT": {"cpt_token_ids": [5, 6], "task_type": TaskType.CAUSAL_LM},
    "FOURIERFT": {**LAYERS, "n_frequency": 10},
    "GRALORA": {**LAYERS, "r": 4, "gralora_k": 2},
    "IA3": {"target_modules": ["k_proj", "fc2"], "feedforward_modules": ["fc2"]},
    "LN_TUNING": {"target_modules": ["final_layer_norm"]},
    "MISS": {**LAYERS, "r": 4},
    "MULTITASK_PROMPT_TUNING": TOKENS,
    "OFT": {**LAYERS, "oft_block_size": 4},
    "PREFIX_TUNING": TOKENS,
    "PROMPT_TUNING": TOKENS,
    "P_TUNING": TOKENS,
    "RANDLORA": {**LAYERS, "r": 4},
    "ROAD": {**LAYERS, "group_size": 8},
    "SHIRA": {**LAYERS, "r": 4},
    "TRAINABLE_TOKENS": {"target_modules": ["embed_tokens"], "token_indices": list(range(4, 300))},
    "VBLORA": {**LAYERS, "vector_length": 4, "num_vectors": 16},
    "WAVEFT": {**LAYERS, "n_frequency": 10},
    "XLORA": {"hidden_size": 32, "adapters": {}},
}  # fmt: skip
"""Settings of each method that fit the tiny model; `LAYERS` for the others."""
WORKING = sorted(name for name, method in PEFT_METHODS.items() if method.refusal is None)
REFUSED = sorted(name for name, method in PEFT_METHODS.items() if method.refusal is not None)
NEWER = {"SHADOW", "SUPERTUNING"}
"""Methods that the oldest supported version of PEFT does not have."""


def config_of(name: str, **changes) -> PeftConfig:
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[name]]
    return kind(**{**SETTINGS.get(name, LAYERS), **changes})


def run_of(base, folder, config, **changes) -> ChartQATrainer:
    model, processor, adapter = load_checkpoint(base)
    rows = drawn_charts()
    return ChartQATrainer(
        model,
        arguments(folder, max_steps=2, learning_rate=0.3, **changes),
        train_dataset=rows,
        eval_dataset=rows.select(range(4)),
        processing_class=processor,
        adapter=adapter,
        peft_config=config,
    )


def logits(model, adapter) -> torch.Tensor:
    """Logits of the base model inside, which is the one that evaluations call."""
    with torch.no_grad():
        return base_model(model.eval())(
            **adapter.model_inputs(adapter.encode(list(drawn_charts().select(range(3)))))
        ).logits


def same_everywhere(run, base, folder, *, can_merge: bool) -> None:
    """Train, save, load and merge; the trained weights differ from the base and nothing else does."""
    adapter = run.adapter
    untrained, _, _ = load_checkpoint(base)
    before = logits(untrained, adapter)
    run.train()
    run.save_model()
    wanted = logits(run.model, adapter)
    assert (wanted - before).abs().max() > 1e-2
    with torch.no_grad():
        batch = adapter.encode(list(drawn_charts().select(range(3))))
        through_peft = run.model(**adapter.model_inputs(batch)).logits
    torch.testing.assert_close(through_peft, wanted, rtol=0, atol=1e-6)
    loaded, _, _ = load_checkpoint(folder)
    torch.testing.assert_close(logits(loaded, adapter), wanted, rtol=0, atol=1e-5)
    if can_merge:
        merged, _, _ = load_checkpoint(folder, merge=True)
        torch.testing.assert_close(logits(merged, adapter), wanted, rtol=0, atol=1e-4)
    else:
        with pytest.raises(ValueError, match=r"cannot be merged.*merge=False"):
            load_checkpoint(folder, merge=True)


def test_the_table_has_every_method_of_this_peft():
    known = {method.name for method in PeftType}
    assert known - set(PEFT_METHODS) == set(), "decide about these methods, in chartqa_ft/models/peft_types.py"
    assert set(PEFT_METHODS) - known <= NEWER


@pytest.mark.parametrize("name", [name for name in WORKING if name in PeftType.__members__])
def test_a_method_that_works_does_so_to_the_end(base, tmp_path, name):
    if name == "ADAMSS" and importlib.util.find_spec("sklearn") is None:
        with pytest.raises(ImportError, match="scikit-learn"):
            config_of(name)
        return
    run = run_of(base, tmp_path, config_of(name))
    same_everywhere(run, base, tmp_path, can_merge=PEFT_METHODS[name].can_merge)


@pytest.mark.parametrize("name", [name for name in REFUSED if name in PeftType.__members__])
def test_a_method_that_does_not_work_is_refused_by_name(base, tmp_path, name):
    with pytest.raises(ValueError, match=rf"peft_config: {name} is not supported: .*\. Use LoRA"):
        run_of(base, tmp_path, config_of(name))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "gaussian"},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        {"modules_to_save": ["final_layer_norm"]},
        {"target_modules": ["v_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "target_parameters": ["fc1.weight"]},
    ],
    ids=str,
)
def test_an_option_of_lora_works_to_the_end(base, tmp_path, settings):
    run = run_of(base, tmp_path, LoraConfig(**{"r": 4, **LAYERS, **settings}))
    same_everywhere(run, base, tmp_path, can_merge=True)


def test_biases_of_lora_only_are_saved_or_refused(base, tmp_path):
    config = LoraConfig(r=4, **LAYERS, bias="lora_only")
    if Version(version("peft")) < Version("0.21"):
        with pytest.raises(ValueError, match=r"use bias='all' or peft>=0\.21"):
            run_of(base, tmp_path, config)
    else:
        same_everywhere(run_of(base, tmp_path, config), base, tmp_path, can_merge=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alora_invocation_tokens": [5, 6], "task_type": TaskType.CAUSAL_LM}, "alora_invocation_tokens is not supp"),
        ({"layer_replication": [(0, 1), (0, 1)]}, "layer_replication is not supported"),
        ({"init_lora_weights": "eva"}, "init_lora_weights='eva' needs peft.initialize_lora_eva_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights='corda' needs"),
        ({"init_lora_weights": "pissa_niter_4"}, "at random.*use 'pissa'"),
    ],
    ids=str,
)
def test_an_option_of_lora_that_would_be_left_out_is_refused(base, tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"peft_config: .*{message}"):
        run_of(base, tmp_path, LoraConfig(**{**LAYERS, **settings}))


@pytest.mark.parametrize("option", ["kasa_config", "monteclora_config", "arrow_config", "use_asa"])
def test_options_with_a_loss_of_their_own_are_refused(option):
    config = LoraConfig(**LAYERS)
    setattr(config, option, SimpleNamespace())
    with pytest.raises(ValueError, match=f"{option} is not supported"):
        check_peft_config(config)


def test_a_part_of_the_weights_is_not_saved():
    check_peft_config(config_of("VBLORA"))
    with pytest.raises(
        ValueError, match=r"save_only_topk_weights is not supported: it saves a part .* need all of the"
    ):
        check_peft_config(config_of("VBLORA", save_only_topk_weights=True))


@pytest.mark.parametrize("config", [{"r": 4}, {"chart": LoraConfig()}, LoraConfig, "lora"], ids=str)
def test_what_is_no_configuration_is_refused(base, tmp_path, config):
    with pytest.raises(TypeError, match="peft_config must be one configuration of PEFT"):
        run_of(base, tmp_path, config)


def test_a_method_of_a_newer_peft_is_refused_as_unknown(base, tmp_path):
    config = LoraConfig(**LAYERS)
    config.peft_type = "TELEPATHY"
    with pytest.raises(ValueError, match="TELEPATHY is not supported: this version of chartqa_ft does not know"):
        run_of(base, tmp_path, config)
    with pytest.raises(ValueError, match="a plain PeftConfig without a method"):
        run_of(base, tmp_path, PeftConfig())


def test_a_checkpoint_of_such_a_method_is_refused_too(base, tmp_path):
    model, processor, _ = load_checkpoint(base)
    model = peft.get_peft_model(model, LoraConfig(**LAYERS))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    text = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(
        text.replace('"alora_invocation_tokens": null', '"alora_invocation_tokens": [5]')
    )
    with pytest.raises(ValueError, match=r"adapter_config.json: alora_invocation_tokens is not supported"):
        load_checkpoint(tmp_path)


def test_a_model_of_such_a_method_is_not_asked(base):
    model, processor, adapter = load_checkpoint(base)
    wrapped = peft.get_peft_model(model, default_lora_config(model, r=2))
    check_active_methods(wrapped)
    wrapped.peft_config["default"].peft_type = PeftType.PREFIX_TUNING
    row = drawn_charts()[0]
    with pytest.raises(ValueError, match="the PEFT weights 'default' of the model: PREFIX_TUNING is not supported"):
        answer_questions(wrapped, processor, row["image"], [row["question"]], adapter=adapter)
