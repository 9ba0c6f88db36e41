"""Any copy of ChartQA, or your own files, become checked records of one schema."""

from .chartqapro import chartqapro_prompt, with_chartqapro_prompts
from .columns import LayoutError
from .load import load_chartqa
from .mixing import mix_datasets
from .push_dataset import push_dataset
from .record_errors import RecordError
from .splitting import split_by_chart, stratified_subset
from .synthetic import synthetic_chartqa

__all__ = [
    "LayoutError",
    "RecordError",
    "chartqapro_prompt",
    "load_chartqa",
    "mix_datasets",
    "push_dataset",
    "split_by_chart",
    "stratified_subset",
    "synthetic_chartqa",
    "with_chartqapro_prompts",
]
