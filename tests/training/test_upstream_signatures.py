"""The methods of transformers that `ChartQATrainer` overrides have the signatures that it was written for.

A new transformers that changes one fails here with the name of the method: read what changed there, adapt the trainer,
then add the new signature with the first version that has it.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import transformers
from packaging.version import Version
from transformers import Seq2SeqTrainer

import chartqa_ft
from chartqa_ft.training import trainer as module
from chartqa_ft.training.trainer import ChartQATrainer

OLDEST = "5.19"
"""The first supported version. Read in the sources of 5.19, 5.21, 5.22, 5.23 and 5.24 (5.20 is excluded)."""

PRIVATE = {
    "_determine_best_metric": {OLDEST: "self, metrics, trial"},
    "_evaluate": {OLDEST: "self, trial, ignore_keys_for_eval, skip_scheduler=False"},
    "_finish_current_push": {OLDEST: "self"},
    "_get_grad_norm": {OLDEST: "self, model, grad_norm=None"},
    "_get_output_dir": {OLDEST: "self, trial"},
    "_hp_search_setup": {OLDEST: "self, trial"},
    "_init_training_state": {
        OLDEST: "self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial"
    },
    "_issue_warnings_after_load": {OLDEST: "self, load_result"},
    "_load_best_model": {OLDEST: "self"},
    "_load_from_checkpoint": {OLDEST: "self, resume_from_checkpoint, model=None"},
    "_load_optimizer_and_scheduler": {OLDEST: "self, checkpoint"},
    "_push_from_checkpoint": {OLDEST: "self, checkpoint_folder"},
    "_run_epoch": {
        OLDEST: "self, model, epoch, train_dataloader, steps_in_epoch, num_update_steps_per_epoch, trial, "
        "ignore_keys_for_eval, start_time, resume_from_checkpoint, epochs_trained, steps_trained_in_current_epoch"
    },
    "_save": {OLDEST: "self, output_dir=None, state_dict=None"},
    "_save_checkpoint": {OLDEST: "self, model, trial"},
}
PUBLIC = {
    "__init__": {
        OLDEST: "self, model=None, args=None, data_collator=None, train_dataset=None, eval_dataset=None, "
        "processing_class=None, model_init=None, compute_loss_func=None, compute_metrics=None, callbacks=None, "
        "optimizers=(None, None), preprocess_logits_for_metrics=None"
    },
    "call_model_init": {OLDEST: "self, trial=None"},
    "compute_loss": {OLDEST: "self, model, inputs, return_outputs=False, num_items_in_batch=None"},
    "create_optimizer": {OLDEST: "self, model=None"},
    "evaluate": {OLDEST: "self, eval_dataset=None, ignore_keys=None, metric_key_prefix='eval', **gen_kwargs"},
    "evaluation_loop": {
        OLDEST: "self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix='eval'"
    },
    "get_eval_dataloader": {OLDEST: "self, eval_dataset=None"},
    "get_test_dataloader": {OLDEST: "self, test_dataset"},
    "get_train_dataloader": {OLDEST: "self"},
    "hyperparameter_search": {
        OLDEST: "self, hp_space=None, compute_objective=None, n_trials=20, direction='minimize', backend=None, "
        "hp_name=None, **kwargs"
    },
    "init_hf_repo": {OLDEST: "self, token=None", "5.23": "self, token=None, private=None"},
    "log": {OLDEST: "self, logs, start_time=None"},
    "predict": {OLDEST: "self, test_dataset, ignore_keys=None, metric_key_prefix='test', **gen_kwargs"},
    "prediction_step": {OLDEST: "self, model, inputs, prediction_loss_only, ignore_keys=None, **gen_kwargs"},
    "push_to_hub": {
        OLDEST: "self, commit_message='End of training', blocking=True, token=None, revision=None, **kwargs",
        "5.23": "self, commit_message='End of training', blocking=True, token=None, revision=None, private=None, "
        "**kwargs",
    },
    "save_model": {OLDEST: "self, output_dir=None, _internal_call=False"},
    "train": {OLDEST: "self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None"},
    "training_step": {OLDEST: "self, model, inputs, num_items_in_batch=None"},
}
SIGNATURES = {**PRIVATE, **PUBLIC}


def overridden(kind: type) -> set[str]:
    """The methods and properties of transformers' trainer that a class overrides, by anything."""
    own = {name for name in vars(kind) if not name.startswith("__") or name == "__init__"}
    return {name for name in own if is_method(inspect.getattr_static(Seq2SeqTrainer, name, None))}


def is_method(value) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


def signature_of(function) -> str:
    """A signature without annotations, which differ in their spelling alone."""
    plain = inspect.signature(function).replace(return_annotation=inspect.Signature.empty)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in plain.parameters.values()]
    return str(plain.replace(parameters=parameters))[1:-1]


def expected(signatures: dict[str, str], version: str) -> str:
    """The signature in a version: that of the newest entry which is not newer."""
    known = [entry for entry in signatures if Version(entry) <= Version(version)]
    return signatures[max(known, key=Version)]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_an_overridden_method_has_the_known_signature(name):
    assert signature_of(getattr(Seq2SeqTrainer, name)) == expected(SIGNATURES[name], transformers.__version__), (
        f"transformers {transformers.__version__} changed {name}, which ChartQATrainer overrides"
    )


def test_every_overridden_method_is_in_the_table():
    assert overridden(ChartQATrainer) == set(SIGNATURES)


def test_a_method_that_is_not_in_the_table_is_found():
    class More(ChartQATrainer):
        def _inner_training_loop(self):
            raise NotImplementedError

        def _own(self):
            raise NotImplementedError

    assert overridden(More) == {"_inner_training_loop"}


def test_a_changed_signature_is_found():
    def _save(self, output_dir: str | None = None, *, state: dict | None = None) -> None: ...

    assert signature_of(_save) == "self, output_dir=None, *, state=None" != expected(SIGNATURES["_save"], "5.24.0")
    assert expected(SIGNATURES["init_hf_repo"], "5.22.1") == "self, token=None"
    assert expected(SIGNATURES["init_hf_repo"], "6.0") == "self, token=None, private=None"


def test_every_private_method_says_why_it_is_overridden():
    source = Path(module.__file__).read_text(encoding="utf-8")
    lines = source.splitlines()
    (trainer,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found = {node.name: node for node in trainer.body if isinstance(node, ast.FunctionDef) and node.name in PRIVATE}
    assert set(found) == set(PRIVATE)
    for name, node in found.items():
        assert lines[node.body[0].lineno - 2].strip().startswith("# "), name


def test_the_architecture_page_names_every_private_method():
    page = (Path(chartqa_ft.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert sorted(line.split("`")[1] for line in page.splitlines() if line.startswith("| `_")) == sorted(PRIVATE)


def test_no_other_file_derives_from_the_trainer_of_transformers():
    package = Path(chartqa_ft.__file__).parent
    trainers = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Trainer") for base in node.bases)
    ]
    assert trainers == ["training/trainer.py"]
