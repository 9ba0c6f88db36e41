"""finetune_vlm_lora.py on tiny models of several families: LoRA, DoRA, all parameters."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from chartqa_ft import (
    default_lora_config,
    format_table,
    load_checkpoint,
)

from ..support.common import drawn_charts, launcher, relative_l2, run
from ..support.families import build
from ..support.launching import (
    EVALUATE,
    LORA,
    QUICK,
    answers,
    as_command_line,
    check_against_predictions,
    complaints,
    example,
    report,
    save_family,
    saved,
    start_prepared,
    write_original_layout,
)


@pytest.fixture(scope="module")
def charts(tmp_path_factory) -> Path:
    """Drawn charts in the original layout: 12 questions to train on, 6 to evaluate."""
    records = drawn_charts()
    folder = tmp_path_factory.mktemp("charts")
    return write_original_layout(folder, train=records.select(range(6, 18)), val=records.select(range(6)))


def weights(folder: Path, file: str = "adapter_model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / file)


def losses(output: Path) -> list[float]:
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return [entry["loss"] for entry in saved(last, "trainer_state.json")["log_history"] if "loss" in entry]


def check_evaluated(model: Path, data: Path, scores: Path, run: Path) -> None:
    """evaluate_checkpoint.py on `model` gives the same answers and scores as the training in `run` at its end."""
    settings = {"model_name_or_path": model, "dataset_name": data, "eval_split": "val", "use_cpu": True}
    settings |= {"generation_num_beams": 1, "generation_max_new_tokens": 5, "output_dir": scores}
    example(EVALUATE).main(as_command_line(settings))
    assert answers(scores) == answers(run)
    wanted = report(run)
    for key in ("eval_relaxed_accuracy", "eval_relaxed_accuracy_human", "eval_relaxed_accuracy_augmented", "eval_n"):
        assert report(scores)[key] == wanted[key]
    assert report(scores)["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-5)


def test_lora_from_a_yaml_file_saved_evaluated_and_merged(tmp_path, charts):
    base, output = save_family("qwen2_5_vl", tmp_path / "qwen"), tmp_path / "out"
    settings = {
        **QUICK,
        "model_name_or_path": str(base),
        "dataset_name": str(charts),
        "output_dir": str(output),
        "lora_r": 4,
        "lora_alpha": 12,
        "lora_target_modules": ["q_proj", "v_proj"],
        "max_pixels": 2048,
        "gradient_accumulation_steps": 2,
        "merge": True,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    launched = run([*launcher(1), str(LORA), str(tmp_path / "run.yaml")], timeout=300)
    assert complaints(launched.stdout + launched.stderr) == []

    config = saved(output, "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (4, 12, False)
    assert config["base_model_name_or_path"] == str(base)
    tensors = weights(output)
    targets = {name.split(".lora_")[0].rpartition(".")[2] for name in tensors}
    assert targets == {"q_proj", "v_proj"}
    assert all(weight.abs().max() > 0 for weight in tensors.values())
    assert not list(output.rglob("training_args.bin"))
    assert not (output / "model.safetensors").exists()
    trained = sum(weight.numel() for weight in tensors.values())
    total = trained + sum(weight.numel() for weight in build("qwen2_5_vl")[0].parameters())
    assert f"{trained:,} of {total:,} parameters are trained" in launched.stderr
    assert "a chart takes 4 image tokens" in launched.stderr
    arguments = saved(output, "training_args.json")
    assert (arguments["activation_checkpointing"], arguments["generation_num_beams"]) == (True, 1)
    assert losses(output)[-1] < losses(output)[0]

    metrics = report(output)
    assert (metrics["num_processes"], metrics["eval_n"]) == (1, 6)
    assert (output / metrics["best_checkpoint"]).is_dir()
    assert format_table(metrics, prefix="eval_") in launched.stdout
    assert f"merged model: {output / 'merged'}\n" in launched.stdout
    check_against_predictions(metrics, answers(output))
    check_evaluated(output, charts, tmp_path / "scores", output)
    merged, processor, _ = load_checkpoint(output / "merged")
    assert not hasattr(merged, "peft_config")
    assert processor.image_processor.size["longest_edge"] == 2048
    check_evaluated(output / "merged", charts, tmp_path / "merged_scores", output)


@pytest.mark.long
def test_two_processes_train_the_adapter_of_one(tmp_path, charts):
    """Without find_unused_parameters: every adapted weight takes part in every loss."""
    base = save_family("llava", tmp_path / "llava")
    settings = {**QUICK, "model_name_or_path": base, "dataset_name": charts, "lora_dropout": 0.0, "lora_vision": True}
    settings |= {"max_steps": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    one, two = tmp_path / "one", tmp_path / "two"
    launched = start_prepared(LORA, {**settings, "output_dir": two}, processes=2)
    assert complaints(launched.stdout + launched.stderr) == []
    example(LORA).main(as_command_line({**settings, "output_dir": one, "per_device_train_batch_size": 2}))
    assert [report(folder)["num_processes"] for folder in (one, two)] == [1, 2]
    assert saved(two, "training_args.json")["ddp_find_unused_parameters"] is False
    first, second = weights(one), weights(two)
    assert list(first) == list(second)
    assert any("vision_tower" in name for name in first)
    for name, weight in first.items():
        assert relative_l2(second[name].double(), weight.double()) < 1e-5, name
    assert answers(one) == answers(two)
    assert report(one)["eval_loss"] == pytest.approx(report(two)["eval_loss"], rel=1e-6)


def test_dora(tmp_path, charts):
    base, output = save_family("smolvlm", tmp_path / "base"), tmp_path / "out"
    settings = {**QUICK, "model_name_or_path": base, "dataset_name": charts, "output_dir": output, "use_dora": True}
    settings |= {"max_steps": 2, "gradient_accumulation_steps": 1, "lora_target_modules": "all-linear"}
    example(LORA).main(as_command_line(settings))
    assert saved(output, "adapter_config.json")["use_dora"] is True
    tensors = weights(output)
    vectors = {name: weight for name, weight in tensors.items() if name.endswith("lora_magnitude_vector")}
    assert len(vectors) == len(tensors) / 3
    linear = dict(build("smolvlm")[0].named_modules())
    moved = [
        not torch.allclose(vector, linear[as_in_base(name)].weight.norm(dim=1), rtol=0, atol=1e-6)
        for name, vector in vectors.items()
    ]
    assert sum(moved) > len(moved) / 2
    check_evaluated(output, charts, tmp_path / "scores", output)


def as_in_base(name: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(".lora_magnitude_vector")


def test_full_fine_tuning_trains_every_weight(tmp_path, charts):
    base, output = save_family("pix2struct", tmp_path / "base"), tmp_path / "out"
    settings = {**QUICK, "model_name_or_path": base, "dataset_name": charts, "output_dir": output, "max_steps": 2}
    settings |= {"optim": "adamw_torch", "gradient_accumulation_steps": 1, "max_patches": 24}
    del settings["learning_rate"]
    example(LORA).main([*as_command_line(settings), "--lora", "False"])
    assert saved(output, "training_args.json")["learning_rate"] == 1e-5
    assert not (output / "adapter_config.json").exists()
    before, after = weights(base, "model.safetensors"), weights(output, "model.safetensors")
    assert set(before) == set(after)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    _, processor, _ = load_checkpoint(output)
    assert processor.image_processor.max_patches == 24
    check_evaluated(output, charts, tmp_path / "scores", output)


def test_defaults_are_those_of_the_library(tmp_path):
    module = example(LORA)
    script, args = module.parse(
        ["--use_cpu", "--output_dir", str(tmp_path)],
        module.ScriptArguments,
        description="",
        defaults=module.DEFAULTS,
    )
    config = default_lora_config(build("llava")[0])
    assert (script.lora_r, script.lora_alpha, script.lora_dropout) == (
        config.r,
        config.lora_alpha,
        config.lora_dropout,
    )
    assert (args.learning_rate, args.per_device_train_batch_size, args.gradient_accumulation_steps) == (1e-4, 1, 8)
    assert (args.generation_num_beams, args.activation_checkpointing) == (1, True)


def test_quantizing_without_what_it_needs_is_one_line(tmp_path, monkeypatch):
    line = ["--use_cpu", "--output_dir", str(tmp_path / "out"), "--quantize"]
    monkeypatch.setattr("chartqa_ft.models.quantization.importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^error: loading a model in 4 bits needs bitsandbytes: pip install"):
        example(LORA).main([*line, "4"])
    monkeypatch.setattr("chartqa_ft.models.quantization.importlib.util.find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^error: loading a model in 8 bits needs a CUDA GPU"):
        example(LORA).main([*line, "8"])
    with pytest.raises(SystemExit, match=r"^error: bits must be 4 or 8, got 3"):
        example(LORA).main([*line, "3"])


def test_arguments_that_do_not_fit_are_named(tmp_path, charts, capsys):
    model = save_family("llava", tmp_path / "llava")
    base = as_command_line({"model_name_or_path": model, "dataset_name": charts, "output_dir": tmp_path / "out"})
    base += ["--use_cpu"]
    for line, message in (
        (["--max_patches", "64"], "--max_patches 64 does not apply to llava"),
        (["--lora_target_modules", "no_such_layer"], "no_such_layer"),
        (["--random_padding"], "--random_padding True needs a processor that pads charts"),
        (["--model_name_or_path", "nobody/nothing"], "nobody/nothing was not loaded: "),
        (["--column_map", "image"], "column_map: 'image' is not a pair like image=file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            example(LORA).main([*base, *line])
        assert str(stopped.value.code).startswith("error: ")
        assert message in str(stopped.value.code)
        assert len(str(stopped.value.code).splitlines()) == 1
    for line, message in (
        (["--no_lora", "--quantize", "4"], "--lora False trains all parameters: leave out --quantize"),
        (["--full", "--lora_target_modules", "q_proj"], "leave out --lora_target_modules"),
        (["--lora", "--full"], "--full and --lora mean the same argument and have different values"),
        (["--lora_vision", "--lora_target_modules", "q_proj"], "leave out --lora_vision"),
    ):
        with pytest.raises(SystemExit):
            example(LORA).main([*base, *line])
        assert message in capsys.readouterr().err
