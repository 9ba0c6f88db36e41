"""Streams: whether all ranks and a resumed run read the same records in the same order, and decode them once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import numpy as np
from accelerate.utils import gather_object
from datasets.features.features import require_decoding

from ...batching.streams import StreamSampler
from .findings import CheckContext, Finding, register_check

_SEED = "pass a seed: stream.shuffle(seed=42), interleave_datasets(..., seed=42)"
_ENTROPY_BITS = 64
"""numpy draws 128 bits where no seed is given; seeds are shorter."""


@register_check()
def check_streams(context: CheckContext) -> Iterator[Finding]:
    """Find streams whose order differs by rank or after a resume, those that are split already, and needless work."""
    args, training = context.trainer.args, context.call == "train"
    name = {"train": "train_dataset", "evaluate": "eval_dataset", "predict": "test_dataset"}[context.call]
    parts = context.records if isinstance(context.records, Mapping) else {"": context.records}
    for part, records in parts.items():
        if not isinstance(records, datasets.IterableDataset):
            continue
        where = f"{name}[{part!r}]" if part else name
        if args.world_size > 1 and getattr(records, "_distributed", None):
            yield Finding(
                name,
                "error",
                f"{where} was split with split_dataset_by_node, and each of the {args.world_size} processes would use "
                "a share of its part only",
                "pass the whole stream, which the trainer distributes",
            )
        if (args.world_size > 1 or args.dataloader_num_workers) and decodes_for_functions(records):
            yield Finding(
                name,
                "warning",
                f"{where} decodes every image in every process, for functions of map or filter",
                "call stream.decode(False) before map and filter if they need no pixels, and each image is decoded "
                "once, by the worker that uses it",
            )
        generators = shuffles(records)
        unseeded = any(map(is_unseeded, generators))
        if unseeded and args.world_size > 1:
            yield Finding(
                name,
                "error",
                f"{where} is shuffled without a seed: the {args.world_size} processes would read it in different "
                "orders, some records twice and others not at all",
                _SEED,
            )
        elif unseeded and training and args.save_strategy != "no":
            yield Finding(
                name,
                "warning",
                f"{where} is shuffled without a seed: another process reads it in another order, so that training "
                "cannot be resumed from within an epoch",
                _SEED,
            )
        elif generators and training and args.save_strategy != "no":
            yield Finding(
                name,
                "info",
                f"{where} is shuffled while it is read: a resumed run fills the shuffle buffer anew, by reading the "
                "records of the epoch up to its place without decoding their images",
            )


def shuffles(stream: Any) -> list[np.random.Generator]:
    """Return the random generators that decide about the order of a stream of `datasets`.

    Example:
        >>> stream = datasets.Dataset.from_dict({"a": [1, 2]}).to_iterable_dataset()
        >>> len(shuffles(stream)), len(shuffles(stream.shuffle(seed=0).take(1)))
        (0, 1)
    """
    return [part for part in _parts(stream) if isinstance(part, np.random.Generator)]


def decodes_for_functions(stream: Any) -> bool:
    """Return whether a stream of `datasets` decodes images for functions of `map` and `filter`.

    Example:
        >>> features = datasets.Features({"image": datasets.Image()})
        >>> stream = datasets.Dataset.from_dict({"image": ["a.png"]}, features=features).to_iterable_dataset()
        >>> decodes_for_functions(stream.filter(bool)), decodes_for_functions(stream.decode(False).filter(bool))
        (True, False)
    """
    # Records get the types of their features before the first function, in an object of this class.
    typed = (part for part in _parts(stream) if type(part).__name__ == "FormattedExamplesIterable")
    return any(require_decoding(feature) for part in typed for feature in (part.features or {}).values())


def _parts(stream: Any) -> Iterator[Any]:
    """Yield what a stream of `datasets` is made of, which `datasets` has no public way to ask for."""
    seen: dict[int, Any] = {}
    waiting = [stream]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part  # so that the id is not used again
        yield part
        if isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif type(part).__module__ == datasets.IterableDataset.__module__:
            waiting.extend(vars(part).values())


def is_unseeded(generator: np.random.Generator) -> bool:
    """Return whether a random generator was made without a seed, and so differs in every process.

    Example:
        >>> is_unseeded(np.random.default_rng()), is_unseeded(np.random.default_rng(42))
        (True, False)
    """
    entropy = getattr(generator.bit_generator.seed_seq, "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > _ENTROPY_BITS


def check_same_stream(sampler: StreamSampler) -> None:
    """Check that all ranks have read the same first records of an epoch. Every rank must call it.

    Raises:
        ValueError: they have read different ones, on every rank.
    """
    places = gather_object([sampler.first_place])
    if len(set(places)) > 1:
        raise ValueError(
            f"the {len(places)} processes read different records from {sampler.records.name}, and each trains on its "
            "own share of what it reads: some records would come twice and others not at all. Let the order depend "
            "on nothing that differs between processes: shuffle with a seed, sort lists of files, do not choose by "
            "rank. The trainer distributes the records"
        )
