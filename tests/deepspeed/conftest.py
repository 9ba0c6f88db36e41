"""These tests are collected where DeepSpeed is installed: `make test-deepspeed` makes such an environment."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("deepspeed") else ["test_*.py"]
