"""`HubPusher`: pushes a model from a folder of its own, after training or during it, and leaves local files alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from ..evaluation.report import METRICS_NAME, PREDICTIONS_NAME
from ..hub.errors import HubError, explained
from ..hub.model_files import check_files, files_of_model, stage
from ..hub.push import make_repository, push_checkpoint
from ..resources import naming_a_full_disk
from .arguments import ChartQATrainingArguments
from .checkpoints import hide_folders

logger = logging.getLogger(__name__)

PUSH_FOLDER = ".push"
_CARD = "README.md"
_RESULTS = (_CARD, METRICS_NAME, PREDICTIONS_NAME)
"""Files that a push makes itself and does not take from the folder of the model."""
_FAILED = "a push while training failed, and training goes on: %s"
_EXPECTED: tuple[type[Exception], ...] = (HubError, ValueError, OSError)


class HubPusher:
    """Pushes the models of a trainer to the Hub.

    What is pushed is first put together in `output_dir/.push`: the model's files as hard links (or copies, where the
    file system has none), with a card, scores and predictions of their own. No other local file is changed or deleted.

    Args:
        args: the arguments of the trainer.
    """

    def __init__(self, args: ChartQATrainingArguments) -> None:
        self.args = args
        self._executor: ThreadPoolExecutor | None = None
        self._running: Future | None = None
        self._saved: Path | None = None

    @property
    def staging(self) -> Path:
        """The folder in which pushes are put together."""
        return Path(self.args.output_dir) / PUSH_FOLDER

    def make_repository(self, token: str | None, private: bool | None) -> str:
        """Create the repository if it does not exist, and return its full name.

        With `hub_create_pr` nothing is created: the repository is somebody else's.

        Args:
            token: a token with write permission; `None` uses `args.hub_token` or the login.
            private: whether a new repository is private; `None` uses `args.hub_private_repo`.

        Raises:
            HubError: the token may not write there, or the repository is public although `private` is true.
        """
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        if self.args.hub_create_pr:
            return name
        token = self.args.hub_token if token is None else token
        private = self.args.hub_private_repo if private is None else private
        with explained("push", name, token=token):  # without `keep`: there are no files yet
            return make_repository(HfApi(token=token), name, private)

    # ------------------------------------------------------------------ after training
    def push(
        self,
        folder: Path,
        describe: Callable[..., None],
        find_answers: Callable[[], Path],
        *,
        repo_id: str,
        message: str | None,
        blocking: bool,
        token: str | None,
        revision: str | None,
        private: bool | None,
        predictions: bool | None,
        include_images: bool | None,
    ) -> CommitInfo | Future:
        """Push the model in `folder`, after the last push in the background has ended.

        If the push succeeds, its card with its pictures and its `metrics.json` are also added to `folder`, each unless
        there is one already. If it fails, the staged folder stays, ready for `push_checkpoint`; the error names it.

        Args:
            folder: the folder of the model.
            describe: writes the card and `metrics.json` into the staged folder, which is its first argument. It also
                gets `token`, `revision`, `include_images`, and as `report` the `metrics.json` in `folder`.
            find_answers: returns the file to push as `predictions.jsonl`.
            repo_id: the repository.
            message: first line of the commit.
            blocking: `False` pushes in the background and returns a `Future`.
            token: a token with write permission. Like all that follow, `None` uses the training argument.
            revision: the branch.
            private: whether a new repository is private.
            predictions: whether to push the answers.
            include_images: whether charts may be published.

        Raises:
            ValueError: the folder holds no whole model, a link in place of a file, or a file with a secret in it.
            HubError: the Hub did not accept the push.
        """
        token = self.args.hub_token if token is None else token
        revision = self.args.hub_revision if revision is None else revision
        private = self.args.hub_private_repo if private is None else private
        include_images = self.args.push_images if include_images is None else include_images
        predictions = self.args.push_predictions if predictions is None else predictions
        answers = find_answers() if predictions else None
        files = {name: path for name, path in files_of_model(folder).items() if name not in _RESULTS}
        check_files(files, token=token, arguments=vars(self.args))
        self.finish()
        staged = self.staging / "model"
        advice = f"{folder} could not be pushed. The model is untouched; free some space, then push again"
        try:
            with naming_a_full_disk(advice):
                stage(folder, staged, files)
                report = folder / METRICS_NAME
                describe(staged, token=token, revision=revision, include_images=include_images, report=report)
                if answers is not None:
                    shutil.copyfile(answers, staged / PREDICTIONS_NAME)
                check_files(files_of_model(staged, predictions=answers is not None), arguments=vars(self.args))
        except BaseException:
            self._remove(staged)
            raise

        def send() -> CommitInfo:
            commit = push_checkpoint(
                staged,
                repo_id,
                token=token,
                private=private,
                revision=revision,
                create_pr=self.args.hub_create_pr,
                commit_message=message or "Upload the model",
                predictions=answers is not None,
            )
            _add_results(staged, folder)
            self._remove(staged)
            return commit

        return send() if blocking else self._in_background(send)

    # ------------------------------------------------------------------ during training
    def saved(self, checkpoint: str | Path) -> None:
        """Remember the checkpoint that is being saved, for `push_saved`."""
        self._saved = Path(checkpoint)

    def push_saved(
        self, describe: Callable[..., None], *, repo_id: str | None, step: int, begin: Callable[[], None]
    ) -> None:
        """Push the checkpoint that has just been saved in the background, as `hub_strategy` says.

        It is skipped while another push is running, unless `hub_always_push` is set. A push that fails is reported by
        a warning, and training goes on.

        Args:
            describe: as in `push`.
            repo_id: the repository.
            step: the optimizer step, for the commit message.
            begin: called before a push begins.
        """
        checkpoint, self._saved = self._saved, None
        strategy = self.args.hub_strategy
        if checkpoint is None or repo_id is None or strategy == HubStrategy.END:
            return
        if self._running is not None and not self._running.done() and not self.args.hub_always_push:
            return
        self._report()
        begin()
        staged = self.staging / checkpoint.name
        try:
            stage(checkpoint, staged)  # rotation may delete the checkpoint while it is being sent
            hide_folders(staged)
            check_files(files_of_model(staged), token=self.args.hub_token, arguments=vars(self.args))
            describe(
                staged,
                token=self.args.hub_token,
                revision=self.args.hub_revision,
                include_images=self.args.push_images,
            )
        except _EXPECTED as error:
            self._remove(staged)
            logger.warning(_FAILED, error)
            return
        with_states = strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)

        def send() -> CommitInfo:
            try:
                return push_checkpoint(
                    staged,
                    repo_id,
                    token=self.args.hub_token,
                    private=self.args.hub_private_repo,
                    revision=self.args.hub_revision,
                    commit_message=f"Training in progress, step {step}",
                    checkpoint=staged if with_states else None,
                    path_in_repo="last-checkpoint" if strategy == HubStrategy.CHECKPOINT else checkpoint.name,
                    keep=checkpoint,
                )
            finally:
                # Not a callback of the future: whoever waits for the push may stage the next one before a callback
                # runs, and would lose the folder it has just made.
                self._remove(staged)

        self._in_background(send)

    def finish(self) -> None:
        """Wait for the last push in the background, report its failure, and remove what such pushes have staged."""
        if self._running is not None:
            logger.info("waiting for a push to end")
        self._report()
        for staged in self.staging.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            self._remove(staged)

    def _in_background(self, push: Callable[[], CommitInfo]) -> Future:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._running = self._executor.submit(push)
        return self._running

    def _report(self) -> None:
        """Wait for the last push in the background and warn if it failed."""
        done, self._running = self._running, None
        error = None if done is None else done.exception()
        if error is not None:
            logger.warning(_FAILED, error)
            if not isinstance(error, _EXPECTED):
                raise error

    def _remove(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)
        if self.staging.is_dir() and not any(self.staging.iterdir()):
            self.staging.rmdir()


def _add_results(staged: Path, folder: Path) -> None:
    """Add the results of a push to the folder of the model. Files that are there already are left as they are."""
    names = [name for name in (METRICS_NAME, PREDICTIONS_NAME) if (staged / name).is_file()]
    if (folder / _CARD).exists():
        if (folder / _CARD).read_bytes() != (staged / _CARD).read_bytes():
            logger.info("%s is kept as it is; another card was pushed", folder / _CARD)
    else:
        pictures = [path.relative_to(staged).as_posix() for path in sorted(staged.glob("assets/*"))]
        names += [*pictures, _CARD]
    for name in names:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(staged / name, folder / name)
