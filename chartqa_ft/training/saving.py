"""`CheckpointSaver`: a model is saved whole, with all it needs to answer again and without any token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..adapters import Adapter, base_model, compat
from ..hub.public import hub_name
from ..models.chartqa_config import save_settings
from ..models.load import load_checkpoint
from ..models.peft_embeddings import needs_embeddings
from ..models.peft_state import active_config, active_name
from ..models.peft_types import method_of
from ..models.saving import replaced_whole
from ..resources import explaining_memory, naming_a_full_disk
from .arguments import ChartQATrainingArguments

MERGED_FOLDER = "merged"


def checkpoint_folder(output_dir: str | Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step.

    Example:
        >>> checkpoint_folder("out", 500).as_posix()
        'out/checkpoint-500'
    """
    return Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def refuse_base_folder(model: nn.Module, folder: str | Path) -> None:
    """Refuse to save PEFT weights into the folder of their base model.

    Raises:
        ValueError: `folder` is the folder of the base model.
    """
    folder = Path(folder)
    for peft_config in getattr(model, "peft_config", {}).values():
        base = peft_config.base_model_name_or_path
        if base and folder.is_dir() and Path(base).is_dir() and folder.samefile(base):
            raise ValueError(
                f"{folder} is the folder of the base model, which saving the PEFT weights there would replace: choose "
                "another output_dir"
            )


class CheckpointSaver:
    """Saves models and checkpoints of a trainer.

    Args:
        adapter: the adapter of the model's family, whose settings are saved with the model.
        args: the arguments of the trainer, which are saved with the model as JSON.
        accelerator: the accelerator of the trainer, whose processes write together.
    """

    def __init__(self, adapter: Adapter, args: ChartQATrainingArguments, accelerator: Accelerator) -> None:
        self.adapter, self.args, self.accelerator = adapter, args, accelerator

    def save(self, model: nn.Module, folder: str | Path, write: Callable[[str], None]) -> None:
        """Save a model into `folder`, whose files are replaced all together or not at all.

        Args:
            model: the model that `write` saves.
            folder: the folder to save into.
            write: writes model and processor into the folder it is given; upstream's `save_model`.

        Raises:
            ValueError: the folder is that of the base model of the PEFT weights.
            OSError: the disk is full.
        """
        folder = Path(folder)
        refuse_base_folder(model, folder)
        main = self.args.should_save
        barrier = self.accelerator.wait_for_everyone if self.args.world_size > 1 else None
        with replaced_whole(folder, main=main, barrier=barrier) as fresh:
            write(str(fresh))
            if main:
                (fresh / "README.md").unlink(missing_ok=True)  # peft's own card
                self._write_settings(model, fresh)
        if main:
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # of another trainer: it may hold a token

    def write_full(self, model: nn.Module, processor: Any, folder: str | Path, state_dict: dict | None) -> None:
        """Write a model and its processor as upstream does, but no pickle of the arguments.

        Upstream's `training_args.bin` holds `hub_token`, and all secrets in other arguments, in plain text. To delete
        it afterwards would not be enough: a process that is killed while saving leaves it there.
        """
        main = self.args.should_save
        if main or getattr(model, "is_distributed_loading_by_transformers", False):
            whole = self.accelerator.unwrap_model(model, keep_torch_compile=False)
            whole.save_pretrained(folder, state_dict=state_dict, is_main_process=main)
        if main:
            processor.save_pretrained(folder)

    def write_peft(self, model: nn.Module, processor: Any, folder: str | Path, state_dict: dict | None) -> None:
        """Write the active PEFT weights, the generation config and the processor.

        Embeddings are written only if they differ from those of the base model. The weights are written to `folder`
        itself, whatever their name is: PEFT writes all but `"default"` to a subfolder, where loading does not look.
        """
        main = self.args.should_save
        if main or getattr(model, "is_distributed_loading_by_transformers", False):
            name = active_name(model)
            model.save_pretrained(
                folder,
                state_dict=state_dict,
                save_embedding_layers=needs_embeddings(model),
                selected_adapters=[name],
                is_main_process=main,
            )
        if main:
            _move_up(Path(folder) / name, Path(folder))
            generation = getattr(base_model(model), "generation_config", None)
            if generation is not None:  # it may differ from that of the base model
                generation.save_pretrained(folder)
            processor.save_pretrained(folder)

    def save_merged(self, model: nn.Module, folder: str | Path | None = None, *, token: str | None = None) -> Path:
        """Merge the PEFT weights saved in `output_dir` into their base model; see `ChartQATrainer.save_merged`."""
        output_dir = Path(self.args.output_dir)
        folder = output_dir / MERGED_FOLDER if folder is None else Path(folder)
        if folder.absolute() == output_dir.absolute():
            raise ValueError(
                f"{folder} holds the PEFT weights, which the merged model would replace: choose another folder"
            )
        if self.args.process_index == 0:
            dtype = next(parameter.dtype for parameter in base_model(model).parameters())
            parts = (base_model(model), self.adapter.processor)
            merged, processor, _ = load_checkpoint(
                output_dir,
                token=self.args.hub_token if token is None else token,
                merge=True,
                dtype=dtype if dtype.is_floating_point else None,
                # Code that this process already runs.
                trust_remote_code=any(type(part).__module__.startswith("transformers_modules") for part in parts),
            )
            with replaced_whole(folder, again="trainer.save_merged()") as fresh:
                merged.save_pretrained(fresh)
                processor.save_pretrained(fresh)
                self._write_settings(model, fresh, merged=_origin(model))
        self.accelerator.wait_for_everyone()
        return folder

    @contextmanager
    def writing_checkpoint(self, step: int) -> Iterator[None]:
        """Say which checkpoint is incomplete and how to go on, if disk or memory run out within this context."""
        folder = checkpoint_folder(self.args.output_dir, step)
        message = (
            f"{folder} is incomplete, and training stops. Earlier checkpoints are untouched; free some space (this "
            "folder, older checkpoints), then resume from the last one: train(resume_from_checkpoint=True), "
            "--resume_from_checkpoint"
        )
        advice = (
            f"{folder} is incomplete. Earlier checkpoints are untouched: free memory (end other programs), then "
            "resume from the last one with resume_from_checkpoint=True"
        )
        with naming_a_full_disk(message), explaining_memory(f"saving {folder}", lambda: advice):
            yield

    def _write_settings(self, model: nn.Module, folder: Path, *, merged: dict[str, Any] | None = None) -> None:
        self.args.save_json(folder / "training_args.json")
        legacy = compat.is_legacy(base_model(model).config)
        variant = self.args.metric_variant
        save_settings(self.adapter, folder, compat=legacy, metric_variant=variant, merged=merged)


def _origin(model: nn.Module) -> dict[str, Any]:
    """Return the PEFT method of a model, and its base model if that has a name on the Hub."""
    config = active_config(model)
    base = None if config is None else hub_name(config.base_model_name_or_path)
    return {
        "peft_type": None if config is None else method_of(config),
        "base_model": base,
        "base_revision": None if config is None or base is None else config.revision,
    }


def _move_up(source: Path, target: Path) -> None:
    """Move the files of a subfolder, if there is one, into its parent folder."""
    if source.is_dir():
        for path in source.iterdir():
            path.replace(target / path.name)
        source.rmdir()
