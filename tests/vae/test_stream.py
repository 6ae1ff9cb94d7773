"""The schedule of micro-steps does not depend on how the items are handed over."""

import pytest
import torch
from torch import Tensor

from openreel.vae.blocks import Past
from openreel.vae.stream import StreamState, flush, push, run


class Recorder:
    """A step of ratio 2 to 1 that writes down what it was given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, items: Tensor, past: Past) -> tuple[Tensor, Past]:
        self.sizes.append(len(items))
        return (items if past is None else items[1::2]), ()


@pytest.mark.parametrize("handed", [[11], [1] * 11, [3, 1, 0, 7], [1, 10], [10, 1]])
def test_same_steps_for_every_plan(handed: list[int]) -> None:
    step = Recorder()
    outputs = torch.cat(list(run(step, 4, torch.arange(11.0).split(handed))))
    assert step.sizes == [1, 4, 4, 4]
    assert outputs.tolist() == [0, 2, 4, 6, 8, 10]  # the last is of items 9, 10 and 10 repeated


def test_only_outputs_with_a_true_item_are_kept() -> None:
    for total, kept in ((1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)):
        assert len(torch.cat(list(run(Recorder(), 4, [torch.zeros(total)])))) == kept


def test_nothing_in_nothing_out() -> None:
    assert list(run(Recorder(), 4, [])) == []


def test_a_state_is_a_value() -> None:
    """Going on twice from one state gives the same twice, whatever happened in between."""
    state, _ = push(Recorder(), 4, StreamState(), torch.arange(4.0))
    once, first = push(Recorder(), 4, state, torch.arange(4.0, 7.0))
    _, other = push(Recorder(), 4, state, torch.full((9,), -1.0))
    twice, second = push(Recorder(), 4, state, torch.arange(4.0, 7.0))
    assert len(first) == len(second) == 1
    assert len(other) == 3
    assert torch.equal(first[0], second[0])
    assert torch.equal(flush(Recorder(), 4, once)[0], flush(Recorder(), 4, twice)[0])
