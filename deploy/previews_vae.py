"""What an autoencoder in training makes of clips that it has not seen, as a contact sheet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from openreel.deploy.contact_sheet import contact_sheet
from openreel.vae.train import VaeTask


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreview:
    """Called by the trainer with the averaged weights of the task's model."""

    task: VaeTask

    def __call__(
        self, weights: dict[str, Tensor], path: Path, stopping: Callable[[], bool]
    ) -> None:
        """Write the sheet; none without clips held out, or when stopping() is true."""
        found = self.task.reconstructions(weights)
        if not found or stopping():
            return
        label = "{}: {:.1f} dB; above the clip, below what came back"
        rows = [(label.format(one.name, one.psnr), one.pairs) for one in found]
        contact_sheet(path, rows)
