"""What a trainer saves and pushes: a model that answers, the card that tells about it, and no token."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers import Seq2SeqTrainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from ..adapters import Adapter, base_model, compat
from ..evaluation.results import EvaluationResult
from ..hub.card.base_licence import base_licence
from ..hub.card.render import CardFacts, CardSample, write_card
from ..hub.errors import HubError, explained
from ..hub.model_files import stage
from ..hub.public import as_json
from ..hub.push import make_repository, push_checkpoint
from ..images.opening import open_image
from ..images.rgb import to_rgb
from ..models.chartqa_config import package_versions, save_settings
from ..models.load import load_checkpoint
from ..models.origin import origin_of, revision_of
from ..models.peft_embeddings import needs_embeddings
from ..models.saving import naming_a_full_disk, replaced_whole

logger = logging.getLogger(__name__)

_FAILED, _REPORTED = "a push while training failed, and training goes on: %s", (HubError, ValueError, OSError)
METRICS_NAME, PREDICTIONS_NAME, PUSH_FOLDER, MERGED_FOLDER = "metrics.json", "predictions.jsonl", ".push", "merged"


class ModelPublishing(Seq2SeqTrainer):
    """The part of `ChartQATrainer` that saves and pushes; it reads `adapter`, `scores` and `weights_step`."""

    adapter: Adapter
    scores: dict[int, EvaluationResult]

    def __init__(self, *args: Any, **kwargs: Any):
        self._pushing: Future | None = None
        self._saved_checkpoint: Path | None = None
        self._pusher: ThreadPoolExecutor | None = None
        super().__init__(*args, **kwargs)
        self._check_folder(Path(self.args.output_dir))
        self.card_facts: dict[str, Any] = {}
        """What the trainer cannot know and its card shall say: fields of `CardFacts`, such as `dataset`, `command`."""

    # ------------------------------------------------------------------ saving
    def _check_folder(self, folder: Path) -> None:
        for peft_config in getattr(self.model, "peft_config", {}).values():
            base = peft_config.base_model_name_or_path
            if base and folder.is_dir() and Path(base).is_dir() and folder.samefile(base):
                raise ValueError(
                    f"{folder} is the folder of the base model, which saving the adapter there would replace: take "
                    "another output_dir"
                )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once; upstream calls that a missing key, and nobody can act on the warning.
        tied = getattr(self.model, "all_tied_weights_keys", {})
        missing = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model, processor, what the adapter needs to answer the same way, and the arguments as JSON.

        The folder is replaced whole: a full disk leaves what was there. Upstream's `training_args.bin` is a pickle
        that holds `hub_token` in plain text, and peft writes a card of its own: neither is kept.

        Raises:
            ValueError: the folder is that of the adapter's base model.
            OSError: the disk is full.
        """
        folder = Path(output_dir or self.args.output_dir)
        self._check_folder(folder)
        wait = self.accelerator.wait_for_everyone if self.args.world_size > 1 else None
        with replaced_whole(folder, main=self.args.should_save, barrier=wait) as fresh:
            super().save_model(str(fresh), _internal_call=True)
            if self.args.should_save:
                for unwanted in (TRAINING_ARGS_NAME, "README.md"):
                    (fresh / unwanted).unlink(missing_ok=True)
                self.args.save_json(fresh / "training_args.json")
                self._save_settings(fresh)
        if self.args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # The states of the optimizer come after the model, and are larger.
        checkpoint = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        told = (
            f"{checkpoint} is not whole, and training stops. Earlier checkpoints are untouched; free some space (this "
            "folder, older checkpoints), then resume from the last one: train(resume_from_checkpoint=True), "
            "--resume_from_checkpoint"
        )
        with naming_a_full_disk(told):
            super()._save_checkpoint(*args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Upstream gives no way to tell PEFT whether the embeddings belong to an adapter; its guess asks the Hub.
        if not hasattr(self.model, "peft_config"):
            super()._save(output_dir, state_dict)
        elif self.args.should_save or getattr(self.model, "is_distributed_loading_by_transformers", False):
            self.model.save_pretrained(
                output_dir,
                state_dict=state_dict,
                save_embedding_layers=needs_embeddings(self.model),
                is_main_process=self.args.should_save,
            )
            if self.args.should_save:
                self.processing_class.save_pretrained(output_dir)

    def _save_settings(self, folder: Path) -> None:
        legacy = compat.is_legacy(base_model(self.model).config)
        save_settings(self.adapter, folder, compat=legacy, metric_variant=self.args.metric_variant)

    def save_merged(self, folder: str | Path | None = None, *, token: str | None = None) -> Path:
        """Merge the saved adapter of `output_dir` into its base model and save a checkpoint without PEFT.

        The base model is loaded once more beside the trained one, on the CPU, not quantized.

        Args:
            folder: `None`: `output_dir/merged`.
            token: to read the base model with; `None`: `args.hub_token`, or the one that is logged in.

        Raises:
            ValueError: `folder` is `output_dir`, whose adapter the merged model would replace.
            OSError: the disk is full.
        """
        folder = Path(self.args.output_dir) / MERGED_FOLDER if folder is None else Path(folder)
        if folder.absolute() == Path(self.args.output_dir).absolute():
            raise ValueError(f"{folder} holds the adapter, which the merged model would replace: take another folder")
        if self.is_world_process_zero():
            dtype = next(parameter.dtype for parameter in base_model(self.model).parameters())
            model, processor, _ = load_checkpoint(
                self.args.output_dir,
                token=self.args.hub_token if token is None else token,
                merge=True,
                dtype=dtype if dtype.is_floating_point else None,
            )
            with replaced_whole(folder, again="trainer.save_merged()") as fresh:
                model.save_pretrained(fresh)
                processor.save_pretrained(fresh)
                self.args.save_json(fresh / "training_args.json")
                self._save_settings(fresh)
        self.accelerator.wait_for_everyone()
        return folder

    # ------------------------------------------------------------------ the card
    def _write_facts(self, folder: Path, *, kind: str, token: str | None, include_images: bool, **more: Any) -> None:
        """Card and `metrics.json` beside the weights in `folder`: the scores of exactly these weights, if any."""
        scores = self.scores.get(self.weights_step)
        config = base_model(self.model).config
        peft_config = next(iter(getattr(self.model, "peft_config", {}).values()), None)
        # The model's own name: that in its config is a cache folder of this machine after load_checkpoint.
        base = base_model(self.model).name_or_path if peft_config is None else peft_config.base_model_name_or_path
        origin = origin_of(self.model)
        base_revision = revision_of(self.model) if peft_config is None else peft_config.revision
        history = self.state.log_history
        facts = {
            "name": self.hub_model_id or Path(self.args.output_dir).absolute().name,
            "kind": kind,
            "base_model": base or None,
            "base_revision": base_revision,
            "base_is_peft": origin is not None and origin.is_peft,
            "settings": self.adapter.settings(),
            "model_type": config.model_type,
            "vocabulary_grown": bool(getattr(peft_config, "trainable_token_indices", None)),
            "compat": compat.is_legacy(config),
            "eval_part": scores.part if scores else None,
            "metrics": scores.metrics if scores else {},
            "metric_prefix": scores.prefix if scores else "",
            "metric_variant": self.args.metric_variant,
            "decoding": scores.decoding if scores else {},
            "step": self.weights_step,
            "arguments": self.args.to_sanitized_arguments(),
            "default_arguments": type(self.args).default_arguments(),
            "num_processes": self.args.world_size,
            "peft_config": {} if peft_config is None else peft_config.to_dict(),
            "log_history": history,
            "samples": [_sample(row, scores, include_images) for row in (scores.rows if scores else [])],
            "versions": package_versions(),
            **base_licence(base, token, revision=base_revision),
            **{key: value for key, value in self.card_facts.items() if value is not None},
            **more,
        }
        unknown = sorted(set(facts) - {field.name for field in fields(CardFacts)})
        if unknown:
            raise TypeError(f"a card has no {', '.join(unknown)}: see chartqa_ft.model_card.CardFacts for its fields")
        write_card(folder, CardFacts(**facts), include_images=include_images)
        report = folder / METRICS_NAME
        if scores is not None:
            numbers = {key.replace(scores.prefix, "eval_", 1): value for key, value in as_json(scores.metrics).items()}
            if not _same_scores(report, numbers):
                numbers |= {"step": scores.step, "decoding": as_json(scores.decoding)}
                numbers |= {} if scores.part is None else {"eval_dataset": scores.part}
                report.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
        else:
            report.unlink(missing_ok=True)

    # ------------------------------------------------------------------ pushing
    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository before training begins, so that a token that may not write is known at once."""
        self.push_in_progress = None
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        token = token if token is not None else self.args.hub_token
        if self.args.hub_create_pr:
            self.hub_model_id = name  # somebody else's
            return
        private = private if private is not None else self.args.hub_private_repo
        with explained("push", name, token=token):  # no word of files that are kept: there are none yet
            self.hub_model_id = make_repository(HfApi(token=token), name, private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        *,
        merge: bool | None = None,
        predictions: bool | None = None,
        include_images: bool | None = None,
        **facts: Any,
    ) -> CommitInfo | Future | None:
        """Save the model, write its card, and push both in one commit.

        Args:
            commit_message: first line of the commit.
            blocking: `False` returns a `Future` at once.
            token: with write permission; `None`: `args.hub_token`, or the one that is logged in.
            revision: branch; `None`: `args.hub_revision`.
            private: whether a new repository is; `None`: `args.hub_private_repo`.
            merge: push a PEFT adapter merged into its base model; `None`: `args.push_merged`.
            predictions: push `predictions.jsonl` of the weights' evaluation too; `None`: `args.push_predictions`.
            include_images: show three charts of the evaluation on the card, or those of `samples`, also where they are
                not marked as `allowed`. Only if you may publish them; `None`: `args.push_images`.
            facts: further fields of the card (`dataset`, `command`, `samples`, ...); see `CardFacts`.

        Raises:
            HubError: the Hub did not take it; the message says why and what to do. The model is in `output_dir`.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token if token is not None else self.args.hub_token
        merge = self.args.push_merged if merge is None else merge
        include_images = self.args.push_images if include_images is None else include_images
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        folder, kind = Path(self.args.output_dir), "lora" if hasattr(self.model, "peft_config") else "full"
        if merge and kind == "lora":
            folder, kind = self.save_merged(token=token), "merged"
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        revision = revision if revision is not None else self.args.hub_revision
        facts["revision"] = revision
        self._write_facts(folder, kind=kind, token=token, include_images=include_images, **facts)
        predictions = self.args.push_predictions if predictions is None else predictions
        if predictions:
            self._collect_predictions(folder)
        push = partial(
            push_checkpoint,
            folder,
            self.hub_model_id,
            token=token,
            private=private if private is not None else self.args.hub_private_repo,
            revision=revision,
            create_pr=self.args.hub_create_pr,
            commit_message=commit_message or "Upload the model",
            predictions=predictions,
        )
        return push() if blocking else self._in_background(push)

    def _collect_predictions(self, folder: Path) -> None:
        scores, target = self.scores.get(self.weights_step), folder / PREDICTIONS_NAME
        written = scores.predictions if scores is not None else None
        if written is not None and not written.is_file():  # scripts move it, beside the model that is not merged
            written = Path(self.args.output_dir) / PREDICTIONS_NAME
        if written is None or not written.is_file():
            raise ValueError("push_predictions: these weights were not evaluated with write_predictions=True")
        if written != target:
            shutil.copyfile(written, target)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Upstream's would write and upload training_args.bin, a pickle that holds hub_token in plain text.
        self._saved_checkpoint = Path(checkpoint_folder)

    def push_checkpoint_saved(self) -> None:
        """Push the checkpoint just saved, as `hub_strategy` says, beside the training. Called when it is complete."""
        checkpoint, self._saved_checkpoint = self._saved_checkpoint, None
        strategy = self.args.hub_strategy
        if checkpoint is None or not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if self._pushing is not None and not self._pushing.done() and not self.args.hub_always_push:
            return
        self._report_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        staged = Path(self.args.output_dir) / PUSH_FOLDER / checkpoint.name
        kind = "lora" if hasattr(self.model, "peft_config") else "full"
        try:
            stage(checkpoint, staged)  # a copy: rotation may delete the checkpoint while it is sent
            told = {"include_images": self.args.push_images, "revision": self.args.hub_revision}
            self._write_facts(staged, kind=kind, token=self.args.hub_token, **told)
        except _REPORTED as error:
            shutil.rmtree(staged, ignore_errors=True)
            logger.warning(_FAILED, error)
            return
        with_states = strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)
        push = partial(
            push_checkpoint,
            staged,
            self.hub_model_id,
            token=self.args.hub_token,
            private=self.args.hub_private_repo,
            revision=self.args.hub_revision,
            commit_message=f"Training in progress, step {self.state.global_step}",
            checkpoint=staged if with_states else None,
            path_in_repo="last-checkpoint" if strategy == HubStrategy.CHECKPOINT else checkpoint.name,
            keep=checkpoint,
        )
        job = self._in_background(push)
        job.add_done_callback(lambda _: shutil.rmtree(staged, ignore_errors=True))

    def _in_background(self, push: Any) -> Future:
        if self._pusher is None:
            self._pusher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._pushing = self._pusher.submit(push)
        return self._pushing

    def _report_push(self) -> None:
        """Say what became of the last push in the background; training goes on without it."""
        done, self._pushing = self._pushing, None
        if done is not None and done.exception() is not None:
            error = done.exception()
            logger.warning(_FAILED, error)
            if not isinstance(error, _REPORTED):
                raise error

    def _finish_current_push(self) -> None:
        if self._pushing is not None:
            logger.info("waiting for a push to end")
        self._report_push()
        shutil.rmtree(Path(self.args.output_dir) / PUSH_FOLDER, ignore_errors=True)


def _sample(row: Mapping[str, Any], scores: EvaluationResult, with_image: bool) -> CardSample:
    # No chart is even opened unless somebody said that it may be published.
    image = scores.chart(row) if with_image else None
    return CardSample(
        question=row["question"],
        answer=row["answer"],
        prediction=row["prediction"],
        correct=row.get("correct"),
        image=None if image is None else to_rgb(open_image(image)),
    )


def _same_scores(report: Path, numbers: Mapping[str, Any]) -> bool:
    """Whether a script's own report, which says more, is of the same evaluation."""
    if not report.is_file():
        return False
    found = json.loads(report.read_text(encoding="utf-8"))
    keys = [key for key in numbers if "relaxed_accuracy" in key]
    return bool(keys) and all(found.get(key) == numbers[key] for key in keys)
