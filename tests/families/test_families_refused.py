"""Models that are not supported are refused by `adapter_for`, before anything is trained, with the reason."""

from __future__ import annotations

import re

import pytest
import torch

from chartqa_ft import adapter_for

from ..support.model_table import OTHER_TYPES
from ..support.refused_families import REFUSED, build_refused

torch.set_num_threads(1)


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_does_not_work_is_refused_with_the_reason(name):
    model, processor = build_refused(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"'{name}' model has no chat template") as error:
        adapter_for(model, processor)
    assert re.search(REFUSED[name].says, str(error.value))
    assert ("was tried and does not work" in str(error.value)) is ("raw_layout" not in str(error.value))
    assert not model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert name not in OTHER_TYPES.values()
