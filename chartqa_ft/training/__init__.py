"""`ChartQATrainer`: exact losses, evaluation by generated answers, whole saves, pushes during training."""

from .arguments import ChartQATrainingArguments
from .running_loss import last_checkpoint
from .trainer import ChartQATrainer

__all__ = ["ChartQATrainer", "ChartQATrainingArguments", "last_checkpoint"]
