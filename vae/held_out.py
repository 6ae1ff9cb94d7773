"""What an autoencoder in training makes of clips that it is not trained on, to be looked at.

T H W   frames, rows, columns; frames are uint8 (T, H, W, 3)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange

from openreel.pipeline.clip import Clip
from openreel.vae.codec import Codec, Frames
from openreel.vae.measures import psnr

NUM_PAIRS = 5
"""of a clip, evenly from first to last"""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One clip that was held out, and what came back of it."""

    name: str
    frames: Frames
    decoded: Frames
    psnr: float
    """dB, over all frames"""

    @property
    def pairs(self) -> Frames:
        """Some frames, and below each what came back: (n, 2H, W, 3)."""
        last = len(self.frames) - 1
        chosen = sorted({round(i) for i in np.linspace(0, last, NUM_PAIRS)})
        pairs = np.stack([self.frames[chosen], self.decoded[chosen]])
        return rearrange(pairs, "pair t h w c -> t (pair h) w c")


def reconstruct(codec: Codec, clip: Clip, frames: Frames) -> Reconstruction:
    """Through the autoencoder and back."""
    decoded = codec.decode_video(codec.encode_video(frames, clip.fps))
    return Reconstruction(
        name=f"{Path(clip.uri).name}@{clip.start_frame}",
        frames=frames,
        decoded=decoded,
        psnr=psnr(frames, decoded),
    )
