"""What a training step of the autoencoder computes: a batch in, the sum of its losses out.

T H W C   frames, rows, columns, channels; t h w the same of latents; N positions of a batch
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openreel.vae.adversary import Adversary, AdversaryConfig
from openreel.vae.heads import LFQ, Codebook, Continuous
from openreel.vae.losses import LossWeights, kl, loss
from openreel.vae.model import Autoencoder, whole_cells, whole_folds
from openreel.vae.perceptual import Perceptual
from openreel.vae.quantise import (
    book_entropy,
    commitment,
    digits,
    straight_through,
    token_entropy,
    usage,
)

PREFIX = "autoencoder."
"""of the autoencoder's weights within the objective's"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One crop of one clip, and the noise of its posterior (a continuous head's)."""

    frames_THWC: Tensor
    """uint8"""
    noise_thwC: Tensor


@dataclass(frozen=True, kw_only=True)
class VaeBatch:
    """Samples of any shapes."""

    samples: tuple[Sample, ...]
    index: int = 0
    """place in the sequence of all ranks' batches: what fades goes by it"""
    first: int = 0
    """the index of the round's first batch, the same on every rank: what begins late goes by it"""

    @property
    def weight(self) -> float:
        """Each sample counts once, whatever its size."""
        return float(len(self.samples))


_Terms = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class _Coded:
    """One sample's way through the autoencoder."""

    loss: Tensor
    figures: dict[str, Tensor]
    target_THWC: Tensor
    decoded_THWC: Tensor
    z_NC: Tensor
    """the numbers that a discrete head quantised; of a continuous head, the drawn latents"""


class VaeObjective(nn.Module):
    """A batch -> the sum of its samples' losses."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        weights: LossWeights,
        *,
        adversary: AdversaryConfig | None = None,
        perceptual: Perceptual | None = None,
        seed: int = 0,
    ) -> None:
        """Without a weight for the adversary there is no discriminator; seed is of its weights."""
        super().__init__()
        self.autoencoder, self.weights, self.perceptual = autoencoder, weights, perceptual
        self.rival = adversary or AdversaryConfig()
        if self.rival.weight > 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adversary = Adversary(self.rival.width)

    def forward(self, batch: VaeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss, and the mean of each term over the samples."""
        coded = [self._coded(sample) for sample in batch.samples]
        figures = {
            name: torch.stack([one.figures[name] for one in coded]).mean()
            for name in coded[0].figures
        }
        total = torch.stack([one.loss for one in coded]).sum()
        head = self.autoencoder.config.head
        if not isinstance(head, Continuous):
            z_NC = torch.cat([one.z_NC for one in coded])
            figures |= _usage(z_NC, head)
            if isinstance(head, LFQ) and self.weights.entropy > 0:
                spread, shown = self._spread(z_NC, batch.index)
                total, figures = total + spread * len(coded), figures | shown
        if self.rival.weight > 0 and batch.first >= self.rival.start:
            rivalry, shown = self._rivalry(coded, batch.first)
            total, figures = total + rivalry, figures | shown
        return total, figures

    def _coded(self, sample: Sample) -> _Coded:
        model = self.autoencoder
        frames = sample.frames_THWC.to(model.latent_mean.device)
        num_frames, height, width, _ = frames.shape
        x = whole_cells(frames, model.config.space_factor).to(model.latent_mean.dtype) / 127.5 - 1
        x = whole_folds(x, model.config.time_factor)
        z, code, terms = self._latents(x, sample.noise_thwC)
        decoded, _ = model.decoder(code, None)
        own = (slice(num_frames), slice(height), slice(width))
        target, decoded = x[own].float(), decoded[own].float()
        others = terms()  # only now: gradients are added up in the order of the calls
        if self.perceptual is not None:
            others["perceptual"] = self.perceptual.distance(target, decoded)
        total, figures = loss(target, decoded, others, self.weights)
        return _Coded(total, figures, target, decoded, z.flatten(0, 2))

    def _latents(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, _Terms]:
        """The encoder's numbers, what the decoder gets of them, and the head's terms."""
        model, head = self.autoencoder, self.autoencoder.config.head
        if isinstance(head, Continuous):
            mean, log_variance, _ = model.moments(x, None)
            z = mean + noise.to(mean) * (log_variance / 2).exp()
            return z, z, lambda: {"kl": kl(mean, log_variance)}
        z, _ = model.encoder(x, None)
        bits = isinstance(head, LFQ)
        code = straight_through(z, head).to(z.dtype)
        return z, code, lambda: {"commitment": commitment(z)} if bits else {}

    def _spread(self, z_NC: Tensor, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """LFQ's entropies over this rank's batch: decided positions, but a book all in use."""
        token = token_entropy(z_NC, self.weights.temperature)
        book = book_entropy(z_NC, self.weights.temperature)
        shown = {"token_entropy": token.detach(), "book_entropy": book.detach()}
        return self.weights.entropy_weight(index) * (token - book), shown

    def _rivalry(self, coded: list[_Coded], first: int) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = [(one.target_THWC, one.decoded_THWC) for one in coded]
        deceived, found, shown = self.adversary(pairs, self.rival.lecam)
        # AdamW does not see a loss's scale, but the clipping of all gradients together does: with
        # the weight on it, the discriminator's gradient does not shorten the autoencoder's.
        return self.rival.strength(first) * deceived + self.rival.weight * found, shown


@torch.no_grad()
def _usage(z_NC: Tensor, book: Codebook) -> Mapping[str, Tensor]:
    found = usage(book.index(digits(z_NC, book).cpu().numpy()), book.size)
    return {name: torch.tensor(value) for name, value in found.items()}
