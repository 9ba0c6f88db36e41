"""Subclasses of `Adapter` that use the old name of an attribute or argument keep working, with a warning."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from PIL import Image

from chartqa_ft.adapters import Adapter, DecoderPrompt
from chartqa_ft.adapters.renamed import RENAMED_ATTRIBUTES
from chartqa_ft.batching.collator import ChartQACollator

from ..support.common import tiny

CHART = Image.new("RGB", (96, 48), "white")
VALUES = {"stream": "my_ids", "shares_charts": False, "decodes_by_length": False}


def record(question="How much is red?"):
    return {"image": CHART, "question": question, "answer": "3", "chart_id": "w"}


@pytest.mark.parametrize("old", VALUES)
def test_an_old_class_attribute_sets_the_new_one(old):
    new, value = RENAMED_ATTRIBUTES[old], VALUES[old]
    assert getattr(DecoderPrompt, new) != value
    with pytest.warns(FutureWarning, match=rf"^Own\.{old} is now called {new};") as caught:
        Own = type("Own", (DecoderPrompt,), {old: value})
    assert len(caught) == 1
    assert getattr(Own, new) == value
    assert getattr(DecoderPrompt, new) != value
    below = type("Below", (Own,), {})  # without another warning
    assert getattr(below(*tiny()), new) == value


def test_the_warning_points_at_the_class_statement():
    with pytest.warns(FutureWarning) as caught:

        class Own(DecoderPrompt):
            stream = "my_ids"

    assert caught[0].filename == __file__


def test_an_old_attribute_of_a_mixin_sets_the_new_one_for_its_class_alone():
    class Mixin:
        shares_charts = False

    with pytest.warns(FutureWarning, match=r"^Own\.shares_charts is now called shares_encoder;"):

        class Own(Mixin, DecoderPrompt):
            pass

    assert Own.shares_encoder is False

    class Other(Mixin, DecoderPrompt):
        shares_encoder = True

    class Below(Other):
        pass

    assert Other.shares_encoder is Below.shares_encoder is True


def test_a_class_with_both_names_uses_the_new_one_without_a_warning():
    class Own(DecoderPrompt):
        shares_charts = False
        shares_encoder = True

    assert Own.shares_encoder is True


@pytest.mark.parametrize("old", RENAMED_ATTRIBUTES)
def test_old_attributes_are_read_and_written_under_the_new_name(old):
    new = RENAMED_ATTRIBUTES[old]
    adapter = DecoderPrompt(*tiny())
    with pytest.warns(FutureWarning, match=rf"^DecoderPrompt\.{old} is now called {new};"):
        assert getattr(adapter, old) == getattr(adapter, new)
    with pytest.warns(FutureWarning, match=rf"^DecoderPrompt\.{old} is now called {new};"):
        setattr(adapter, old, "other")
    assert getattr(adapter, new) == "other"


def test_old_ids_are_extended_in_setup():
    class Own(DecoderPrompt):
        def setup(self, model):
            super().setup(model)
            self.unseen_ids |= {40}

    with pytest.warns(FutureWarning, match="unseen_ids is now called skipped_ids"):
        adapter = Own(*tiny())
    assert 40 in adapter.skipped_ids
    assert adapter.answer_ids([39, 40]) == [39]


def test_nothing_warns_with_new_names():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Own(DecoderPrompt):
            prompt_key = "my_ids"

            def encode_images(self, images, *, offsets=None):
                return super().encode_images(images, offsets=offsets)

        adapter = Own(*tiny())
        ChartQACollator(adapter, random_padding="seeded")([record()])


def test_a_method_with_the_old_argument_gets_the_offsets():
    with pytest.warns(FutureWarning, match=r"^argument draws of Own\.encode_images is now called offsets;"):

        class Own(DecoderPrompt):
            def encode_images(self, images, *, draws=None):
                return super().encode_images(images, draws=draws)

    adapter = Own(*tiny())
    collate = ChartQACollator(adapter, random_padding="seeded")
    with pytest.warns(FutureWarning, match=r"^argument draws of DecoderPrompt\.encode_images is now called offsets;"):
        pixels = collate([record()])["pixel_values"]
    plain = ChartQACollator(DecoderPrompt(*tiny()), random_padding="seeded")
    assert torch.equal(pixels, plain([record()])["pixel_values"])


@pytest.mark.parametrize("method", ["encode_images", "chart_tensors", "raw_tensors"])
def test_a_call_with_the_old_argument_is_translated(method):
    adapter = pickle.loads(pickle.dumps(DecoderPrompt(*tiny())))
    argument = [CHART] if method == "encode_images" else [record()]
    offsets = [lambda rows, columns: (rows, columns)]
    with pytest.warns(FutureWarning, match=r"^argument draws of .* is now called offsets;"):
        old = getattr(adapter, method)(argument, draws=offsets)["pixel_values"]
    assert torch.equal(old, getattr(adapter, method)(argument, offsets=offsets)["pixel_values"])
    assert not torch.equal(old, getattr(adapter, method)(argument)["pixel_values"])


def test_a_method_that_takes_neither_is_left_alone():
    class Own(Adapter):
        name, default_prompt = "own", "{question}"

        def encode(self, examples, *, with_answers=True):
            return {}

        def encode_images(self, images, **kwargs):
            return kwargs

    assert Own(*tiny()).encode_images([], offsets=None) == {"offsets": None}
