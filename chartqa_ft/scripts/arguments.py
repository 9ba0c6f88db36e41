"""Dataclasses with the arguments that scripts share: which checkpoint, which data set. Scripts inherit from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import inf
from typing import Literal

CHECK_CHOICES = {
    **dict.fromkeys(("true", "yes", "on", "1"), "True"),
    **dict.fromkeys(("false", "no", "off", "0"), "False"),
}
"""Spellings of `--check`, as for other booleans -> the value."""


@dataclass
class CheckpointArguments:
    """Which checkpoint to load, and how to ask it.

    Example:
        >>> CheckpointArguments(model_name_or_path="google/matcha-base").compat
        True
    """

    model_name_or_path: str = field(
        default="ahmed-masry/unichart-base-960", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    prompt: str | None = field(
        default=None,
        metadata={"help": "Prompt template with the field {question}. Unset: the prompt of the model or its family."},
    )
    system_prompt: str | None = field(
        default=None, metadata={"help": "System message for models whose chat template takes one. Unset: none."}
    )
    prompts: list[str] | None = field(
        default=None,
        metadata={
            "help": "Prompt templates of other tasks than qa, for example: table='Read the chart.' Unset: those of "
            "the model or its family."
        },
    )
    compat: bool = field(
        default=True,
        metadata={"help": "Run checkpoints in the old layout as transformers 4.28.1 did, as their authors require."},
    )


@dataclass
class ResultArguments:
    """What to write for people beside the predictions.

    Example:
        >>> ResultArguments().answers_picture
        'mistakes'
    """

    report: bool = field(
        default=False,
        metadata={"help": "Write report.html: scores, mistakes and every answer with its chart, in one file."},
    )
    write_tables: bool = field(
        default=False,
        metadata={"help": "Write the predicted tables of charts as CSV files into the folder tables (task table)."},
    )
    answers_picture: Literal["mistakes", "sample", "none"] = field(
        default="mistakes",
        metadata={"help": "Which answers answers.png shows: mistakes first, a sample of all, or none (no file)."},
    )

    def __post_init__(self) -> None:
        if self.answers_picture not in ("mistakes", "sample", "none"):
            raise ValueError(f"--answers_picture must be mistakes, sample or none, got {self.answers_picture!r}")


@dataclass
class ScoringArguments(ResultArguments):
    """How the answer in a generated text is found, and what to write for people.

    Example:
        >>> ScoringArguments(run_programs=True).metric_extract
        'program'
        >>> ScoringArguments().metric_variant, ScoringArguments(chartqapro_prompts="direct").metric_variant
        ('pix2struct', 'chartqapro_official')
    """

    metric_variant: str | None = field(
        default=None,
        metadata={
            "help": "Variant of relaxed accuracy, see examples/evaluation.md. Unset: pix2struct, or "
            "chartqapro_official with --chartqapro_prompts."
        },
    )
    metric_extract: str | None = field(
        default=None,
        metadata={
            "help": "Step that finds the final answer in a generated text, such as answer_line, boxed or after_think."
        },
    )
    run_programs: bool = field(
        default=False,
        metadata={
            "help": "Score what generated programs compute (--metric_extract program). They are interpreted within "
            "limits, not executed."
        },
    )
    chartqapro_prompts: str | None = field(
        default=None,
        metadata={
            "help": "Ask questions of ChartQAPro by its published prompts: direct, cot or pot (with --run_programs)."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run_programs:
            if self.metric_extract not in (None, "program"):
                raise ValueError(
                    f"--run_programs and --metric_extract {self.metric_extract} are two ways to find the answer: "
                    "leave out one of them"
                )
            self.metric_extract = "program"
        if self.chartqapro_prompts is not None:
            self._choose_chartqapro(self.chartqapro_prompts)
        if self.metric_variant is None:
            self.metric_variant = "pix2struct" if self.chartqapro_prompts is None else "chartqapro_official"

    def _choose_chartqapro(self, style: str) -> None:
        """Set what is unset to what the prompts of ChartQAPro need."""
        from ..data.chartqapro import STYLES

        if style not in STYLES:
            raise ValueError(f"--chartqapro_prompts must be {', '.join(STYLES)}, got {style!r}")
        if STYLES[style] == "program" and self.metric_extract is None:
            raise ValueError(
                f"--chartqapro_prompts {style} asks for programs: add --run_programs, or --metric_extract"
            )
        if getattr(self, "prompt_from", None) is not None:
            raise ValueError(
                "--chartqapro_prompts and --prompt_from both say how questions are asked: leave one of them out"
            )
        self.metric_extract = self.metric_extract or STYLES[style]
        if getattr(self, "prompt", "") is None:  # an argument of the commands that score, which derive from this class
            vars(self)["prompt"] = "{question}"


def check_choice(value: str | bool) -> str:
    """Return the argument `--check` in one spelling: "True", "False" or "auto".

    Raises:
        ValueError: it is something else.

    Example:
        >>> check_choice("yes"), check_choice(False), check_choice("auto")
        ('True', 'False', 'auto')
    """
    text = str(value).lower()
    if text != "auto" and text not in CHECK_CHOICES:
        raise ValueError(f"--check must be True, False or auto, got {value!r}")
    return CHECK_CHOICES.get(text, text)


@dataclass
class ModelArguments(ResultArguments, CheckpointArguments):
    """Which model to train, the size of its inputs, and how to score it at the end.

    Example:
        >>> ModelArguments(model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct", max_pixels=602112).max_pixels
        602112
    """

    max_length: int | None = field(
        default=None, metadata={"help": "Maximum length of prompt and answer in tokens. Unset: the model's limit."}
    )
    on_long_answer: str = field(
        default="raise", metadata={"help": "What to do with answers that do not fit: raise, or warn and truncate."}
    )
    final_num_beams: int | None = field(
        default=None,
        metadata={"help": "Beams of the final evaluation on the whole split. Unset: generation_num_beams."},
    )
    baseline: bool = field(
        default=False,
        metadata={"help": "Score the model before the training too, and show the difference with its interval."},
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side of the resized chart in pixels: Donut, UniChart, Nougat, Idefics3, SmolVLM."},
    )
    max_pixels: int | None = field(default=None, metadata={"help": "Maximum area of a chart in pixels: Qwen-VL."})
    max_tiles: int | None = field(
        default=None,
        metadata={"help": "Maximum number of tiles per chart: InternVL, LLaVA-Next, Gemma 3, Idefics3, SmolVLM."},
    )
    max_patches: int | None = field(
        default=None,
        metadata={"help": "Maximum number of patches per chart: Pix2Struct, MatCha, DePlot."},
    )
    check: str = field(
        default="auto",
        metadata={
            "help": "True, or no value: only show what would be trained (data, a batch as text, time and memory of a "
            "step, charts in both splits), and end. auto: show it before a training of more than 30 minutes. False: "
            "never.",
            "nargs": "?",
            "const": "True",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check = check_choice(self.check)
        if self.final_num_beams is not None and self.final_num_beams < 1:
            raise ValueError(f"--final_num_beams must be at least 1, got {self.final_num_beams}")


@dataclass
class DatasetArguments:
    """Which data set to read, and how.

    Example:
        >>> DatasetArguments(dataset_name="questions.csv", image_dir="charts").on_error
        'raise'
    """

    dataset_name: str = field(
        default="HuggingFaceM4/ChartQA",
        metadata={"help": "A data set on the Hub, a folder in the original layout, or a JSON/CSV/Parquet file."},
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a data set on the Hub."}
    )
    image_dir: str | None = field(
        default=None, metadata={"help": "Folder of the images that records name. Unset: the folder of the data file."}
    )
    column_map: list[str] | None = field(
        default=None, metadata={"help": "Columns with other names, for example: image=file question=q answer=a"}
    )
    task: str | None = field(
        default=None,
        metadata={
            "help": "Task of records that name none: table (also the tables of the original folder), summary, open_qa "
            "or an own one. Unset: qa, short answers."
        },
    )
    split_file: str | None = field(
        default=None,
        metadata={
            "help": "Held-out charts, as finetune_own_data has written them to split.json. Questions on these charts "
            "are scored, those on others are trained on."
        },
    )
    on_error: str = field(default="raise", metadata={"help": "What to do with invalid records: raise or skip."})
    require_answers: bool = field(
        default=True,
        metadata={
            "help": "False: records without an answer are not invalid. Evaluations ask their questions, which count "
            "neither in the loss nor in the score; records to train on still need an answer."
        },
    )

    def __post_init__(self) -> None:
        if hasattr(super(), "__post_init__"):
            super().__post_init__()  # type: ignore[misc]
        for name in ("max_train_samples", "max_eval_samples"):  # of the classes that derive from this one
            number = getattr(self, name, None)
            if number is not None and number < 1:
                raise ValueError(f"--{name} must be at least 1, got {number}: leave it out for all questions")


@dataclass
class EvalDataArguments(DatasetArguments):
    """Which questions to evaluate on.

    Example:
        >>> EvalDataArguments(max_eval_samples=100).eval_split
        'val'
    """

    eval_split: str = field(
        default="val", metadata={"help": "Split to evaluate on; 'test[:100]' selects a part of it."}
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={"help": "Evaluate on at most this many questions, human and augmented in proportion."},
    )


@dataclass
class MixedDataArguments(DatasetArguments):
    """Which data sets to train on, and how much of each.

    Example:
        >>> data = MixedDataArguments(dataset_name=["charts.csv", "tables.csv"], dataset_weights=[3, 1])
        >>> data.dataset_name, data.other_datasets
        ('charts.csv', ['tables.csv'])
    """

    dataset_name: str = field(
        default="HuggingFaceM4/ChartQA",
        metadata={
            "help": "A data set on the Hub, a folder in the original layout, or a JSON/CSV/Parquet file. Several are "
            "mixed; the model is scored on the first.",
            "nargs": "+",
        },
    )
    dataset_weights: list[float] | None = field(
        default=None,
        metadata={"help": "Weight of each of several data sets in the training. Unset: every chart comes once."},
    )
    other_datasets: list[str] = field(default_factory=list, init=False)
    """The data sets after the first one (not an argument)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [self.dataset_name] if isinstance(self.dataset_name, str) else list(self.dataset_name)
        self.dataset_name, self.other_datasets = names[0], names[1:]
        if len({_place(name) for name in names}) < len(names):
            raise ValueError(
                f"--dataset_name has a data set twice ({', '.join(names)}): use --dataset_weights instead"
            )
        weights = self.dataset_weights
        if weights is not None and len(names) == 1:
            raise ValueError(
                "--dataset_weights is for several data sets: --dataset_name A B --dataset_weights 0.7 0.3"
            )
        if weights is not None and (len(weights) != len(names) or not all(0 < weight < inf for weight in weights)):
            shown = " ".join(map(str, weights))
            raise ValueError(
                f"--dataset_weights must be one positive number for each of the {len(names)} data sets, got {shown}"
            )
        if self.other_datasets and self.dataset_revision is not None:
            raise ValueError("--dataset_revision is for one data set, and --dataset_name has several: leave it out")


@dataclass
class DataArguments(MixedDataArguments, EvalDataArguments):
    """Which questions to train on, and which to evaluate on.

    Example:
        >>> data = DataArguments(train_split="train[:1000]")
        >>> data.train_split, data.eval_split
        ('train[:1000]', 'val')
    """

    train_split: str = field(
        default="train", metadata={"help": "Split to train on; 'train[:1000]' selects a part of it."}
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Train on at most this many questions, human and augmented in proportion; of several data sets by "
            "their weights, in whole charts, which may be a few questions more."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_file and self.eval_split not in ("val", self.train_split):
            raise ValueError(
                f"--split_file names charts of --train_split {self.train_split} to score the model on: leave out "
                f"--eval_split {self.eval_split}"
            )


def _place(name: str) -> str:
    """Return the real path of a file or folder, and the name of a data set on the Hub as it is."""
    return os.path.realpath(name) if os.path.exists(name) else name
