"""Settings that make transformers fetch code from the Hub, or PEFT import a module: refused without trust.

`trust_remote_code=False` of transformers covers the Python files of a checkpoint (`auto_map`, `custom_generate/`) and
no more. Kernels are code too: the package `kernels` downloads compiled modules from the Hub and imports them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import utils

from ..files import read_json

__all__ = ["check_remote_code", "check_remote_code_files"]

_FILES = ("config.json", "generation_config.json", "adapter_config.json", "chartqa_config.json")
_TIMM_SOURCES = ("hf_hub:", "hf-hub:", "local-dir:", "http:", "https:", "file:")


def _kernels() -> bool:
    """Return whether transformers can fetch kernels by itself, for settings that do not ask for one by name."""
    return utils.is_kernels_available()


def _attention(value: Any) -> bool:
    """Return whether an implementation of attention is a kernel of the Hub, or is replaced by one."""
    if not isinstance(value, str):
        return False
    if "/" in value:
        return True
    version = value.rpartition("flash_attention_")[2]
    installed: Callable[[], bool] = getattr(utils, f"is_flash_attn_{version}_available", lambda: False)
    return "flash_attention_" in value and _kernels() and not installed()


def _experts(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or (value.startswith(("deepgemm", "sonicmoe")) and _kernels()))


def _quantization(value: Any) -> bool:
    method = str(getattr(value, "value", value)).lower().replace("-", "_")
    by_kernels = ("fp8", "fbgemm_fp8", "mxfp4", "mxfp8", "nvfp4", "eetq", "metal", "gguf")
    return method in by_kernels and _kernels()


def _timm(value: Any) -> bool:
    return isinstance(value, str) and value.lower().startswith(_TIMM_SOURCES)


_FETCHING: dict[str, Callable[[Any], bool]] = {
    "attn_implementation": _attention,
    "experts_implementation": _experts,
    "use_kernels": bool,
    "allow_all_kernels": bool,
    "kernel_config": lambda value: value is not None,
    "custom_generate": lambda value: isinstance(value, str),
    "quant_method": _quantization,
    # timm's names of models that it takes from elsewhere.
    "backbone": _timm,
    "architecture": _timm,
    # PEFT imports the module that `megatron_core` names.
    "megatron_config": bool,
}
"""Settings by name, and which of their values fetch code. transformers writes some with an underscore in front, or
`_internal` behind."""


def check_remote_code(settings: Any, *, where: str, trust_remote_code: bool) -> None:
    """Refuse settings that fetch code which is then run, unless the user trusts it.

    Args:
        settings: Keyword arguments, or the content of a configuration file. Nested dicts, lists and configurations are
            searched too.
        where: What the error message calls them.
        trust_remote_code: Whether such settings are allowed.

    Raises:
        ValueError: A setting fetches code; the message names it.

    Example:
        >>> check_remote_code({"attn_implementation": "sdpa"}, where="the arguments", trust_remote_code=False)
        >>> settings = {"text_config": {"_attn_implementation": "someone/kernel"}}
        >>> check_remote_code(settings, where="out/config.json", trust_remote_code=False)
        Traceback (most recent call last):
        ...
        ValueError: out/config.json: text_config._attn_implementation='someone/kernel' runs code that is not part of \
the installed packages. Leave it out, or pass trust_remote_code=True if you trust its author
    """
    if trust_remote_code:
        return
    for path, value in _settings(settings):
        for key in path:
            name = key.lstrip("_").removesuffix("_internal")
            if name in _FETCHING and _FETCHING[name](value):
                raise ValueError(
                    f"{where}: {'.'.join(path)}={str(value)!r} runs code that is not part of the installed packages. "
                    "Leave it out, or pass trust_remote_code=True if you trust its author"
                )


def check_remote_code_files(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuse a checkpoint whose configuration fetches code, unless the user trusts it; see `check_remote_code`.

    Raises:
        ValueError: A setting fetches code, or a file is damaged; the message names the file.
    """
    for name in _FILES:
        if (folder / name).is_file():
            settings = read_json(folder / name, kind=object, advice="fetch or save the checkpoint again")
            check_remote_code(settings, where=str(folder / name), trust_remote_code=trust_remote_code)


def _settings(settings: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path of keys, value) of everything in nested settings, without recursion."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), settings)]
    seen: dict[int, Any] = {}  # with the objects, so that no other one gets their id
    while todo:
        path, value = todo.pop()
        yield path, value
        if id(value) in seen:
            continue
        if isinstance(value, Mapping):
            items = [(str(key), item) for key, item in value.items()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            items = [("", item) for item in value]
        elif hasattr(value, "to_dict") and not isinstance(value, type):
            # What `to_dict` of a configuration leaves out.
            hidden = {
                name: getattr(value, f"_{name}", None) for name in ("attn_implementation", "experts_implementation")
            }
            parts = {name: getattr(value, name, None) for name in getattr(value, "sub_configs", {})}
            items = [(name, item) for name, item in {**value.to_dict(), **hidden, **parts}.items() if item is not None]
        else:
            continue
        seen[id(value)] = value
        todo += [((*path, key) if key else path, item) for key, item in items]
