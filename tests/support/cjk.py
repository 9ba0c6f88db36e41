"""A font with Chinese, Japanese and Korean characters, for tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = ("fontconfig", "fonts-wqy-microhei")
"""Debian's packages of the font and of what finds it."""
PATH = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")


def require_cjk_font() -> Path:
    """Return the font's path; skip the test on a machine without it, but fail where CI is set."""
    if not PATH.is_file() or shutil.which("fc-match") is None:
        message = f"no {PATH} or no fc-match: install Debian's packages {' and '.join(PACKAGES)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return PATH
