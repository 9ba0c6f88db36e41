"""Arguments of the training scripts: which model, which data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """Which model is trained, how it is asked, and how it is scored at the end."""

    model_name_or_path: str = field(
        default="ahmed-masry/unichart-base-960", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    prompt: str | None = field(
        default=None, metadata={"help": "How a question is put, with the field {question}. Unset: the model's own."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest prompt + answer in tokens. Unset: what the model can hold."}
    )
    on_long_answer: str = field(default="raise", metadata={"help": "raise, or warn and cut answers that do not fit."})
    compat: bool = field(
        default=True, metadata={"help": "Whether old checkpoints behave as in transformers 4.28.1, as authors demand."}
    )
    final_num_beams: int | None = field(
        default=None,
        metadata={"help": "Beams of the last evaluation, on the whole split. Unset: generation_num_beams."},
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Pixels of a chart's side: Donut, UniChart, Nougat, Idefics3, SmolVLM."}
    )
    max_pixels: int | None = field(default=None, metadata={"help": "Largest area of a chart in pixels: Qwen-VL."})
    max_tiles: int | None = field(
        default=None, metadata={"help": "Most tiles of a chart: InternVL, LLaVA-Next, Gemma 3, Idefics3, SmolVLM."}
    )
    max_patches: int | None = field(
        default=None, metadata={"help": "Patches of chart and question: Pix2Struct, MatCha, DePlot."}
    )


@dataclass
class DataArguments:
    """Which charts with questions a model learns from, and which ones score it."""

    dataset_name: str = field(
        default="HuggingFaceM4/ChartQA",
        metadata={"help": "A data set on the Hub, the folder of the original layout, or a JSON/CSV/Parquet file."},
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub data set."})
    image_dir: str | None = field(default=None, metadata={"help": "Folder of the images that records only name."})
    column_map: list[str] | None = field(
        default=None, metadata={"help": "Columns with names of their own, as in: image=file question=q answer=a"}
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on; 'train[:1000]' takes a part."})
    eval_split: str = field(default="val", metadata={"help": "Split to evaluate on."})
    on_error: str = field(default="raise", metadata={"help": "What to do with bad records: raise or skip."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many questions of the split."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate so many, in the split's mix."})
