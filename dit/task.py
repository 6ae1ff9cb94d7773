"""What the trainer asks of a task: a model, batches, and a state of a few numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from openreel.dit.tally import Load


class Batch(Protocol):
    @property
    def weight(self) -> float:
        """The sum of the samples' weights."""


@runtime_checkable
class Described(Protocol):
    """A batch that can say what it holds."""

    def described(self) -> Any:
        """Its samples, JSON-serialisable, so that the batch can be made again."""


class Task(Protocol):
    """What is trained. Its randomness is keyed, so that its state is a few numbers."""

    @property
    def model(self) -> nn.Module:
        """forward(batch) -> (the weighted sum of the samples' losses, figures)

        Figures are scalars, which are means over the batch, or (2,) of a sum and its weight; their
        names are the same on all ranks.
        """

    def next_batch(self) -> Any:
        """A Batch."""

    def state(self) -> dict[str, Any]:
        """JSON-serialisable; equal on every rank."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state exactly."""

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Fill a folder with the published model."""


@runtime_checkable
class Counting(Protocol):
    """A task that can say how much work a batch is."""

    def load(self, batch: Any) -> Load:
        """Of one of its batches."""


class Preview(Protocol):
    """Shows what a model makes of something, while it is being trained."""

    def __call__(
        self, weights: dict[str, Tensor], path: Path, stopping: Callable[[], bool]
    ) -> None:
        """Write a picture of what these weights make to path, committed.

        They are the very tensors that training averages, to be read only; torch's randomness is
        put back by the trainer. Nothing is written once stopping() is true.
        """
