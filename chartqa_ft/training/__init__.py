"""`ChartQATrainer`: exact losses, evaluation by generated answers, whole saves, pushes during training."""

from .arguments import ChartQATrainingArguments
from .trainer import ChartQATrainer

__all__ = ["ChartQATrainer", "ChartQATrainingArguments"]
