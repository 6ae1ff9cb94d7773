"""A stream is cut into micro-steps: one item, then a fixed number of items each time.

The schedule does not depend on how the items are handed over, so frame by frame, in uneven chunks
and all at once run the very same arithmetic and give the same bits. Works both ways: frames into
latents and latents into frames.

    N   items: frames or latent frames; whatever follows is up to the caller
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from openreel.vae.blocks import Past

Step = Callable[[Tensor, Past], tuple[Tensor, Past]]
"""(items (N, ...), past) -> (outputs, past); the first call gets one item and no past"""


@dataclass(frozen=True)
class StreamState:
    """Where a stream stands: what the layers remember, and the items that wait for a full step."""

    past: Past = None
    waiting: Tensor | None = None


def push(
    step: Step, size: int, state: StreamState, items: Tensor
) -> tuple[StreamState, list[Tensor]]:
    """Hand over items (N, ...); run as many micro-steps of `size` items as they complete."""
    waiting = items if state.waiting is None else torch.cat([state.waiting, items])
    past, outputs = state.past, []
    while len(waiting) >= (1 if past is None else size):
        now, waiting = waiting.tensor_split([1 if past is None else size])
        output, past = step(now, past)
        outputs.append(output)
    return StreamState(past, waiting.clone()), outputs


def flush(step: Step, size: int, state: StreamState) -> list[Tensor]:
    """End of the stream: what waits is filled up with copies of its last item and run.

    Only the outputs that hold a true item are kept. Full steps here too, so that an item's output
    does not depend on what comes after it.
    """
    if state.waiting is None or len(state.waiting) == 0:
        return []
    missing = size - len(state.waiting)
    still = state.waiting[-1:].expand(missing, *state.waiting.shape[1:])
    output, _ = step(torch.cat([state.waiting, still]), state.past)
    return [output[: math.ceil(len(state.waiting) * len(output) / size)]]


def run(step: Step, size: int, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """All outputs of a stream of chunks, each as soon as it is known."""
    state = StreamState()
    for chunk in chunks:
        state, outputs = push(step, size, state, chunk)
        yield from outputs
    yield from flush(step, size, state)
