"""Load any base or fine-tuned checkpoint, ready to answer or to train."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForImageTextToText, GenerationConfig

from ..adapters import Adapter, adapter_for, base_model
from ..adapters import compat as compatibility
from ..adapters.image_cost import follow_processor, set_image_cost
from ..adapters.processors import load_processor
from ..adapters.registry import SETTINGS_KEY
from ..adapters.tasks.prompts import PUBLISHED_TASKS
from ..adapters.vocabulary import grow_vocabulary
from ..hub.answers import check_revision
from ..hub.download import fetch_checkpoint, stems_of_weights
from ..hub.errors import HubError
from ..printable import printable_errors
from ..resources import explaining_memory, is_out_of_memory
from .chartqa_config import read_settings
from .load_checks import (
    check_finite,
    check_json_files,
    check_load_arguments,
    check_saved_adapter,
    check_token_ids,
    naming_config,
)
from .merging import merge_peft
from .missing_weights import check_all_loaded
from .origin import Origin, revision_of, set_origin
from .peft_embeddings import base_config, embedding_weights
from .peft_loading import load_peft_weights
from .peft_types import check_can_merge, check_peft_config
from .peft_values import check_peft_names, check_peft_values
from .remote_code import check_remote_code, check_remote_code_files

logger = logging.getLogger(__name__)


@printable_errors()
def load_checkpoint(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    merge: bool = False,
    trainable: bool = False,
    prompt: str | None = None,
    system_prompt: str | None = None,
    prompts: Mapping[str, str] | None = None,
    task: str | None = None,
    image_cost: Mapping[str, int] | None = None,
    compat: bool | None = None,
    trust_remote_code: bool = False,
    **model_arguments: Any,
) -> tuple[nn.Module, Any, Adapter]:
    """Load a base or fine-tuned checkpoint.

    For a PEFT checkpoint (a folder with `adapter_config.json`), the base model is loaded too. A checkpoint in the
    layout of transformers 4.28.1 (UniChart, Donut) gets what it needs to give the same answers as in that version; see
    `chartqa_ft.adapters.compat`.

    Args:
        path_or_repo: A local folder, or the name of a model on the Hub.
        revision: Branch, tag or commit of a Hub model.
        token: Hub token; `None` uses the one that is logged in.
        merge: Merge the weights of a PEFT checkpoint into its base model.
        trainable: Keep the weights of a PEFT checkpoint trainable, to continue training.
        prompt: The template of the prompt, with `{question}`; `None` uses the one saved with the checkpoint, or the
            default of the family.
        system_prompt: System message of chat families; `None` uses the one saved with the checkpoint, if any.
        prompts: Task -> template of its prompt, for other tasks than `qa`; see `adapter_for`.
        task: The task of records and questions that name none. `None`: the one saved with the checkpoint, or that of
            UniChart's published checkpoints for OpenCQA and Chart-to-Text, else `"qa"`.
        image_cost: Limits of the image size, as in `set_image_cost`, for example `{"max_pixels": 512 * 28 * 28}`.
        compat: Whether to reproduce transformers 4.28.1; `None` decides by the layout of the checkpoint.
        trust_remote_code: Run code that comes with the checkpoint, and code that its settings or `model_arguments`
            fetch from the Hub, such as kernels (`attn_implementation="owner/kernel"`). Only for authors that you
            trust.
        **model_arguments: Passed to `from_pretrained` (`dtype`, `device_map`, `attn_implementation`, ...).

    Returns:
        The model in evaluation mode, its processor, and the adapter of its family.

    Raises:
        FileNotFoundError: A local folder has no `config.json`, or a PEFT checkpoint lacks its weights or base model.
        HubError: The Hub has no such model, refuses access or cannot be reached, or the model is not in the cache
            while offline.
        OSError: The weights are damaged, or are a pickle that would run code.
        MemoryError, RuntimeError: Memory ran out, as an error of the class that the allocator raised.
        TypeError: An argument has another type.
        ValueError: A configuration file is damaged; weights are missing or have another shape (the message names
            them); the checkpoint has PEFT weights of a method that is not supported, or cannot be merged; or a setting
            fetches code without `trust_remote_code`.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import load_checkpoint, tiny_unichart
        >>> folder = tempfile.mkdtemp()
        >>> for saved in tiny_unichart("test", image_size=64, window_size=4):
        ...     _ = saved.save_pretrained(folder)
        >>> model, processor, adapter = load_checkpoint(folder)
        >>> adapter.prompt
        '<chartqa> {question} <s_answer>'
    """
    check_load_arguments(
        path_or_repo,
        revision=revision,
        prompt=prompt,
        compat=compat,
        dtype=model_arguments.get("dtype"),
        merge=merge,
        trainable=trainable,
        trust_remote_code=trust_remote_code,
    )
    check_remote_code(model_arguments, where="load_checkpoint", trust_remote_code=trust_remote_code)
    options = _Options(token, merge, trainable, compat, trust_remote_code, model_arguments)
    with explaining_memory(f"loading {path_or_repo}", partial(_less_memory, model_arguments)):
        folder, model, processor = _load(path_or_repo, revision, options)
    if image_cost:
        set_image_cost(model, processor, **image_cost)
    saved = read_settings(folder)
    if task is None and not saved:
        task = PUBLISHED_TASKS.get(str(path_or_repo))
    given = {name: value for name, value in (("system_prompt", system_prompt), ("task", task)) if value is not None}
    adapter = adapter_for(model, processor, prompt=prompt, prompts=prompts, saved=saved or None, **given)
    check_saved_adapter(folder, saved, adapter)
    # Another adapter made of this model later uses the same prompt.
    setattr(base_model(model).config, SETTINGS_KEY, adapter.settings())
    return model.eval(), processor, adapter


def _less_memory(given: Mapping[str, Any]) -> str:
    """Return what makes loading take less memory than with these arguments of `from_pretrained`."""
    advice = [] if given.get("dtype") is not None else ["dtype=torch.bfloat16 (half of float32)"]
    if given.get("quantization_config") is None:
        advice.append("4-bit weights on a CUDA GPU (**quantized_loading(4), --quantize 4)")
    return f"Use {' or '.join([*advice, 'a smaller model'])}, or end other programs that use this memory"


class _Options(NamedTuple):
    """How a checkpoint and its base model are loaded."""

    token: str | bool | None
    merge: bool
    trainable: bool
    compat: bool | None
    trust_remote_code: bool
    model_arguments: dict[str, Any]
    above: tuple[str, ...] = ()
    """The PEFT checkpoints that this one is the base model of, as real paths."""


_HOW_TO_LOAD = {"dtype", "torch_dtype", "attn_implementation", "quantization_config", "use_cache"}
"""Fields of configs that change no answer beyond rounding, or that are stored with a PEFT checkpoint's weights."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_CHAIN = 8
"""PEFT checkpoints that are trained on top of each other."""


def _load(name: str | Path, revision: str | None, options: _Options) -> tuple[Path, nn.Module, Any]:
    """Return the folder of a checkpoint, its model and its processor."""
    _refuse_subfolders(Path(name))
    folder = fetch_checkpoint(
        name, revision=revision, token=options.token, trust_remote_code=options.trust_remote_code
    )
    check_json_files(folder)
    check_remote_code_files(folder, trust_remote_code=options.trust_remote_code)
    is_peft = (folder / "adapter_config.json").is_file()
    if is_peft:
        model, processor = _load_peft(str(name), folder, options)
    else:
        model, processor = _load_full(folder, options)
    if options.merge or not is_peft:
        commit = None if Path(name).is_dir() else folder.name
        changed = () if is_peft else _changed(folder, model, options.model_arguments)
        set_origin(model, Origin(str(name), commit, is_peft, changed))
    return folder, model, processor


def _changed(folder: Path, model: nn.Module, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of `from_pretrained` that gave the config another value than the checkpoint has."""
    own = model.config.to_dict()
    stored = base_config(str(folder)) if arguments.keys() & own.keys() - _HOW_TO_LOAD else None
    return tuple(
        f"{name}={value!r}"
        for name, value in arguments.items()
        if stored is not None and name in own.keys() - _HOW_TO_LOAD and getattr(stored, name, None) != value
    )


def _refuse_subfolders(folder: Path) -> None:
    """Name the subfolders of a folder that holds PEFT checkpoints only there, as PEFT saves weights with a name."""
    if folder.is_dir() and not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        named = sorted(path.parent.name for path in folder.glob("*/adapter_config.json"))
        if named:
            raise FileNotFoundError(
                f"{folder} has no checkpoint, but its subfolders {', '.join(named)} have PEFT weights: load one "
                f"of them, load_checkpoint({str(folder / named[0])!r})"
            )


def _load_full(folder: Path, options: _Options) -> tuple[nn.Module, Any]:
    """Return the model and the processor of a full checkpoint."""
    with naming_config(folder, options.model_arguments), _reading_weights(folder, is_peft=False):
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            # The error of transformers does not name the weights: they are refused below.
            **{"ignore_mismatched_sizes": True, **options.model_arguments},
        )
    check_all_loaded(folder, info, allow_mismatched=options.model_arguments.get("ignore_mismatched_sizes", False))
    check_finite(folder, model.named_parameters())
    check_token_ids(folder, model)
    if compatibility.needs_compat(folder) if options.compat is None else options.compat:
        return compatibility.apply_legacy_model(model), compatibility.load_legacy_processor(folder)
    processor = load_processor(folder, trust_remote_code=options.trust_remote_code)
    compatibility.unmark_legacy(model, processor)
    return model, processor


def _load_peft(name: str, folder: Path, options: _Options) -> tuple[nn.Module, Any]:
    """Return the model and the processor of a PEFT checkpoint, with its base model."""
    if os.path.realpath(folder) in options.above or len(options.above) >= _LONGEST_CHAIN:
        raise ValueError(
            f"{folder} is a PEFT checkpoint whose base model is, directly or through others, itself, or that has more "
            f"than {_LONGEST_CHAIN} others on top: correct base_model_name_or_path in their adapter_config.json"
        )
    config = _peft_config(folder)
    if not Path(name).is_dir():
        _refuse_local_base(config.base_model_name_or_path, name)
    _refuse_local_commit(config, folder)
    if options.merge:
        check_can_merge(config, str(folder))
    compat = read_settings(folder).get("compat") if options.compat is None else options.compat
    # A base model that is a PEFT checkpoint itself is merged: the new weights were trained on top of it.
    above = (*options.above, os.path.realpath(folder))
    base_options = options._replace(merge=True, compat=compat, above=above)
    with _loading_base(config.base_model_name_or_path, name):
        _, base, processor = _load(config.base_model_name_or_path, config.revision, base_options)
    commit = revision_of(base)
    if (folder / "generation_config.json").is_file():  # of the model that was trained
        with naming_config(folder, {}):
            base.generation_config = GenerationConfig.from_pretrained(folder)
    if (folder / "tokenizer_config.json").is_file():
        if compatibility.is_legacy(base):
            processor = compatibility.load_legacy_processor(folder)
        else:
            processor = load_processor(folder, trust_remote_code=options.trust_remote_code)
        follow_processor(base, processor)
    grow_vocabulary(base, processor)
    check_peft_names(base, config, where=f"{folder}/adapter_config.json", strict=False)
    known = set(map(id, base.parameters()))
    trainable = [parameter for parameter, weight in base.named_parameters() if weight.requires_grad]
    with _reading_weights(folder, is_peft=True):
        model: Any = load_peft_weights(base, folder, trainable=options.trainable)
    known -= set(map(id, embedding_weights(base)))  # the checkpoint may hold them
    check_finite(folder, ((name, weight) for name, weight in model.named_parameters() if id(weight) not in known))
    if options.merge:
        model = merge_peft(model)
        for parameter in trainable:  # PEFT froze them; after merging they are trainable as in any other model
            model.get_parameter(parameter).requires_grad_()
        return model, processor
    for peft_config in model.peft_config.values():
        peft_config.revision = peft_config.revision or commit  # training continues on the base model loaded here
    return model, processor


def _refuse_local_base(base: str, name: str) -> None:
    """Refuse a checkpoint from the Hub that names a folder of this machine as its base model.

    Whoever pushes what is trained or merged from it would publish that folder's weights. A folder of the name of a
    Hub model is refused too, since it would be loaded in place of it.

    Raises:
        ValueError: the base model is the path of an existing file or folder.
    """
    if Path(base).expanduser().exists():
        raise ValueError(
            f"{name} names {base!r} as its base model (adapter_config.json), which is a folder of this machine and no "
            "model on the Hub. If it is the right one, download the checkpoint and load it from its folder; if not, "
            "load it from another working directory"
        )


def _refuse_local_commit(config: Any, folder: Path) -> None:
    """Refuse a folder in place of the commit of a base model.

    Raises:
        ValueError: the base model has a commit, and its name is that of a folder of this machine.
    """
    base, commit = config.base_model_name_or_path, config.revision
    if commit is not None and _COMMIT.fullmatch(commit) and Path(base).is_dir():
        raise ValueError(
            f"{folder}/adapter_config.json names commit {commit} of the base model {base!r}, which is a folder here "
            "and has no commits: load it from another working directory, or delete `revision` from that file if the "
            "folder holds the right weights"
        )


def _peft_config(folder: Path) -> Any:
    """Return the configuration of a PEFT checkpoint, checked for what loading needs."""
    from peft import PeftConfig

    if not any((folder / file).is_file() for file in ("adapter_model.safetensors", "adapter_model.bin")):
        raise FileNotFoundError(
            f"{folder} has an adapter_config.json but no adapter_model.safetensors: fetch or save the PEFT checkpoint "
            "again"
        )
    try:
        config = PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        damage = f"{folder}/adapter_config.json is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{damage}: fetch or save the PEFT checkpoint again") from error
    if config.base_model_name_or_path is not None and not isinstance(config.base_model_name_or_path, str):
        raise ValueError(
            f"{folder}/adapter_config.json: base_model_name_or_path must be the path or the name of the base model, "
            f"got {config.base_model_name_or_path!r}"
        )
    base = config.base_model_name_or_path or ""
    if not base.isprintable() or len(base) > 1000 or max(map(len, base.split("/"))) > 255:
        raise ValueError(
            f"{folder}/adapter_config.json: base_model_name_or_path cannot be a path or a name: "
            f"{config.base_model_name_or_path!r:.300}"
        )
    if not config.base_model_name_or_path:
        raise ValueError(
            f"{folder}/adapter_config.json does not name its base model (base_model_name_or_path): save the base "
            "model first and train from its folder, or write its name into that file"
        )
    check_revision(f"{folder}/adapter_config.json", config.revision)
    check_peft_config(config, where=f"{folder}/adapter_config.json")
    check_peft_values(config, where=f"{folder}/adapter_config.json")
    return config


@contextmanager
def _reading_weights(folder: Path, *, is_peft: bool) -> Iterator[None]:
    """Warn if the only weights are a pickle, and explain errors while reading them."""
    checkpoint = "PEFT checkpoint" if is_peft else "checkpoint"
    stem, pickled = stems_of_weights(is_peft)
    if not list(folder.glob(f"{stem}.safetensors*")) and list(folder.glob(f"{pickled}*.bin")):
        logger.warning(
            "%s has no safetensors, and its weights are a pickle, a format that can run code when it is read. They "
            "are read with weights_only=True, which runs none. Saving this %s writes safetensors.",
            folder,
            checkpoint,
        )
    try:
        yield
    except SafetensorError as error:
        if is_out_of_memory(error):
            raise
        raise OSError(
            f"the weights in {folder} are damaged ({error}): fetch or save the {checkpoint} again"
        ) from error
    except UnpicklingError as error:
        raise OSError(
            f"the weights in {folder} were not read: their pickle is damaged, or contains more than numbers, which "
            f"would run code. Use a {checkpoint} with safetensors, or ask its author for one"
        ) from error


@contextmanager
def _loading_base(base: str, name: str) -> Iterator[None]:
    """Add to errors which checkpoint needs the base model: the user did not ask for the base model by name."""
    reason = f"{base} is the base model of the PEFT checkpoint {name}, according to its adapter_config.json"
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. {reason}: if that was a folder on another machine, write the path of the base model on this "
            "one, or its name on the Hub, into that file (base_model_name_or_path), or ask the author of the "
            "checkpoint for the merged model (push_to_hub(merge=True))"
        ) from error
    except HubError as error:
        raise HubError(f"{error} {reason}.", status=error.status, retry_after=error.retry_after) from error.__cause__
