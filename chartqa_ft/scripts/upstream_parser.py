"""The parser of transformers, without the rest of transformers where that is possible."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["HfArgumentParser", "string_to_bool", "upstream_bool"]


def _upstream() -> ModuleType:
    """Return `transformers.hf_argparser`, alone where it can be: importing transformers takes a second."""
    if "transformers" not in sys.modules:
        package = find_spec("transformers")
        for folder in (package and package.submodule_search_locations) or ():
            spec = spec_from_file_location("hf_argparser", Path(folder, "hf_argparser.py"))
            module = module_from_spec(spec) if spec else None
            try:
                spec.loader.exec_module(module)  # type: ignore[union-attr, arg-type]
            except (ImportError, OSError, AttributeError):
                continue  # a release in which it needs the rest
            return module  # type: ignore[return-value]
    from transformers import hf_argparser

    return hf_argparser


_hf_argparser = _upstream()
HfArgumentParser = _hf_argparser.HfArgumentParser
upstream_bool = _hf_argparser.string_to_bool


def string_to_bool(value: str | bool) -> bool:
    """Return the truth value of a text, as transformers does, and of on and off, which YAML has as well.

    Raises:
        ArgumentTypeError: It is none.

    Example:
        >>> string_to_bool("on"), string_to_bool("no")
        (True, False)
    """
    return upstream_bool({"on": "true", "off": "false"}.get(str(value).lower(), value))
