"""`ChartQATrainer`: exact losses, evaluation by generated answers, whole saves, pushes during training."""

from .arguments import ChartQATrainingArguments
from .model_check.check import check_model
from .model_check.report import CheckReport
from .running_loss import last_checkpoint
from .trainer import ChartQATrainer

__all__ = ["ChartQATrainer", "ChartQATrainingArguments", "CheckReport", "check_model", "last_checkpoint"]
