"""The path of earlier releases for `chartqa_ft.models.tiny`; it goes with the next one."""

from .models.tiny import DEMO_CHARTS_PER_STEP, DEMO_TRAIN_CHARTS, DEMO_TRAINING, tiny_unichart  # noqa: F401
