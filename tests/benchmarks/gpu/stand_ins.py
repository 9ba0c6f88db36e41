"""Let the library be imported where `datasets` and `evaluate` are not installed.

The records of these benchmarks are lists, so that nothing of either package is used but their types in `isinstance`.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULES = ("datasets", "datasets.features", "datasets.features.features", "evaluate")


class StandIn(ModuleType):
    """A module each of whose capitalized names is a class that nothing is an instance of."""

    def __getattr__(self, name: str) -> type:
        if not name[:1].isupper():
            raise AttributeError(f"{self.__name__} is not installed here, and {name} is used")
        kind = type(name, (), {"__module__": self.__name__})
        setattr(self, name, kind)
        return kind


def stand_in() -> list[str]:
    """Put stand-ins in the place of the packages that are not installed, and return their names."""
    import accelerate.utils
    import transformers.utils

    # Both remember the answer: they shall not take a stand-in for the package.
    transformers.utils.is_datasets_available()
    accelerate.utils.is_datasets_available()
    missing = [name for name in ("datasets", "evaluate") if importlib.util.find_spec(name) is None]
    for name in MODULES:
        if name.partition(".")[0] in missing:
            module = sys.modules[name] = StandIn(name)
            module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
    if "datasets" in missing:
        sys.modules["datasets.features.features"].require_decoding = lambda feature: False  # type: ignore[attr-defined]
        sys.modules["datasets"].Features = type("Features", (dict,), {})  # type: ignore[attr-defined]
    return missing


def is_installed(name: str) -> bool:
    """Whether a package itself, and no stand-in, can be imported."""
    return not isinstance(sys.modules.get(name), StandIn) and importlib.util.find_spec(name) is not None
