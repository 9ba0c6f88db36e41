"""A base model's card with values that YAML's constructors cannot make is no reason for a push to fail."""

from __future__ import annotations

import pytest

from chartqa_ft.hub.card.base_licence import base_licence

from .fuzzing import in_time


@pytest.mark.parametrize(
    "value", ["!!bool x", "!!int ''", "!!timestamp x", "2001-99-99", "1" + ":1" * 50_000, "9" * 5000]
)
def test_a_value_that_its_type_cannot_have(tmp_path, value, caplog):
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\nx: {value}\n---\n# A base\n")
    with in_time():
        assert base_licence(str(tmp_path)) == {"licence_unread": True}
    assert "README.md" in caplog.text
