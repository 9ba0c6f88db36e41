"""Checkpoints: load any base or fine-tuned one ready to answer, and store what its answers depend on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForImageTextToText

from ..adapters import Adapter, adapter_for, base_model
from ..adapters import compat as compatibility
from ..adapters.image_cost import follow_processor, set_image_cost
from ..adapters.processors import load_processor
from ..adapters.registry import SETTINGS_KEY
from ..adapters.vocabulary import grow_vocabulary
from ..hub.download import fetch_checkpoint, stems_of_weights
from ..hub.errors import HubError
from .chartqa_config import read_settings
from .origin import Origin, revision_of, set_origin

logger = logging.getLogger(__name__)


def load_checkpoint(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    merge: bool = False,
    trainable: bool = False,
    prompt: str | None = None,
    image_cost: Mapping[str, int] | None = None,
    compat: bool | None = None,
    trust_remote_code: bool = False,
    **model_arguments: Any,
) -> tuple[nn.Module, Any, Adapter]:
    """Load a base or fine-tuned checkpoint: the model in evaluation mode, its processor, and the adapter between them.

    A folder that holds a PEFT adapter brings its base model along. A checkpoint in the layout of transformers 4.28.1
    (UniChart, Donut) gets what makes it answer as it did there; see `chartqa_ft.compat`.

    Args:
        path_or_repo: a local folder, or the name of a model on the Hub.
        revision: branch, tag or commit of a Hub model.
        token: Hub token; `None` takes the one that is logged in.
        merge: merge a PEFT adapter into its base model.
        trainable: leave the weights of a PEFT adapter trainable, to train it on.
        prompt: how a question is put; `None` takes what was saved with the checkpoint, or the family's own.
        image_cost: what a chart may cost, as `set_image_cost` takes it, e.g. `{"max_pixels": 512 * 28 * 28}`.
        compat: `None` decides by the checkpoint's layout, `False` never applies the old behaviour, `True` always.
        trust_remote_code: run code that comes with the checkpoint. Only for authors that you trust.
        model_arguments: go to `from_pretrained` (`dtype`, `device_map`, `attn_implementation`, ...).

    Raises:
        FileNotFoundError: a local folder without `config.json`, or with a PEFT adapter's and without its weights or
            its base model.
        HubError: the Hub has no such model, refuses it or cannot be reached, or the cache does not hold it offline.
        OSError: the weights are damaged, or a pickle that would run code.
    """
    options = _Options(token, merge, trainable, compat, trust_remote_code, model_arguments)
    folder, model, processor = _load(path_or_repo, revision, options)
    if image_cost:
        set_image_cost(model, processor, **image_cost)
    adapter = adapter_for(model, processor, prompt=prompt, saved=read_settings(folder) or None)
    # Whoever makes another adapter of this model asks in the same words.
    setattr(base_model(model).config, SETTINGS_KEY, adapter.settings())
    return model.eval(), processor, adapter


class _Options(NamedTuple):
    """How a checkpoint and the base model behind it are loaded."""

    token: str | bool | None
    merge: bool
    trainable: bool
    compat: bool | None
    trust_remote_code: bool
    model_arguments: dict[str, Any]


def _load(name: str | Path, revision: str | None, options: _Options) -> tuple[Path, nn.Module, Any]:
    """The folder of a checkpoint, its model and its processor."""
    folder = fetch_checkpoint(
        name, revision=revision, token=options.token, trust_remote_code=options.trust_remote_code
    )
    is_peft = (folder / "adapter_config.json").is_file()
    if is_peft:
        model, processor = _load_peft(str(name), folder, options)
    else:
        model, processor = _load_full(folder, options)
    if options.merge or not is_peft:
        commit = None if Path(name).is_dir() else folder.name
        set_origin(model, Origin(str(name), commit, is_peft))
    return folder, model, processor


@contextmanager
def _reading_weights(folder: Path, noun: str) -> Iterator[None]:
    """Warn of weights that are a pickle alone, and say in plain words what is wrong with them."""
    stem, pickled = stems_of_weights(noun == "adapter")
    if not list(folder.glob(f"{stem}.safetensors*")) and list(folder.glob(f"{pickled}*.bin")):
        logger.warning(
            "%s holds its weights as a pickle alone, a kind of file that can run code when it is read; they are read "
            "with weights_only=True, which runs none. Prefer safetensors; saving this %s writes them.",
            folder,
            noun,
        )
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"the weights in {folder} are damaged ({error}): fetch or save the {noun} again") from error
    except UnpicklingError as error:
        raise OSError(
            f"the weights in {folder} were not read: their pickle is damaged, or holds more than numbers, which "
            f"would run code. Take a {noun} in safetensors, or ask its author for one"
        ) from error


def _load_full(folder: Path, options: _Options) -> tuple[nn.Module, Any]:
    with _reading_weights(folder, "checkpoint"):
        model = AutoModelForImageTextToText.from_pretrained(
            folder, trust_remote_code=options.trust_remote_code, **options.model_arguments
        )
    if compatibility.needs_compat(folder) if options.compat is None else options.compat:
        return compatibility.apply_legacy_model(model), compatibility.load_legacy_processor(folder)
    processor = load_processor(folder, trust_remote_code=options.trust_remote_code)
    compatibility.unmark_legacy(model, processor)
    return model, processor


@contextmanager
def _loading_base(base: str, adapter: str) -> Iterator[None]:
    """Say whose base model it is that cannot be found: nobody asked for it by name."""
    whose = f"{base} is the base model of the adapter {adapter}, as its adapter_config.json says"
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. {whose}: where that was a folder of another machine, write the base model's place here, or its "
            "name on the Hub, into that file (base_model_name_or_path), or ask the adapter's author for the merged "
            "model (push_to_hub(merge=True))"
        ) from error
    except HubError as error:
        raise HubError(f"{error} {whose}.", status=error.status, retry_after=error.retry_after) from error.__cause__


def _load_peft(name: str, folder: Path, options: _Options) -> tuple[nn.Module, Any]:
    from peft import PeftConfig, PeftModel

    if not any((folder / name).is_file() for name in ("adapter_model.safetensors", "adapter_model.bin")):
        raise FileNotFoundError(
            f"{folder} has an adapter_config.json and no adapter_model.safetensors: fetch or save the adapter again"
        )
    try:
        config = PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"{folder}/adapter_config.json is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{what}: fetch or save the adapter again") from error
    if not config.base_model_name_or_path:
        raise ValueError(
            f"{folder}/adapter_config.json does not name its base model (base_model_name_or_path): save "
            "the base model first and train from its folder, or write its name into that file"
        )
    compat = read_settings(folder).get("compat") if options.compat is None else options.compat
    settings = options._replace(merge=True, compat=compat)
    with _loading_base(config.base_model_name_or_path, name):
        _, base, processor = _load(config.base_model_name_or_path, config.revision, settings)
    commit = revision_of(base)
    if (folder / "tokenizer_config.json").is_file():
        legacy = compatibility.is_legacy(base)
        processor = (compatibility.load_legacy_processor if legacy else load_processor)(folder)
        follow_processor(base, processor)
    grow_vocabulary(base, processor)
    trained = [name for name, weight in base.named_parameters() if weight.requires_grad]
    with _reading_weights(folder, "adapter"):
        model = PeftModel.from_pretrained(base, str(folder), is_trainable=options.trainable)
    if options.merge:
        model = model.merge_and_unload()
        for weight in trained:  # PEFT froze them; merged it is a model like any other
            model.get_parameter(weight).requires_grad_()
        return model, processor
    for stored in model.peft_config.values():
        stored.revision = stored.revision or commit  # trained on, it stands on what was loaded here
    return model, processor
