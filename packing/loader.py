"""From the latents and captions tables to packs: resumable to the sample, on any number of ranks.

Every rank walks the same order and packs the same packs from metadata alone (clip ids and lengths),
then reads only its own: pack k belongs to rank k mod world_size. So N ranks with one pack each and
one rank with N packs see the same step, and the state is the same few numbers everywhere.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.packing.batch import PackedBatch, Sample, collate
from openreel.packing.packer import Item, Packer, PackerConfig
from openreel.packing.patches import Patch, patch_grid, patchify, positions, valid_values
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator, uniform
from openreel.recaption.caption import MANIFEST, Caption, ClipCaptions
from openreel.vae.latent import LatentRow, LatentVideo

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CaptionMix:
    """How often each kind of caption is drawn for an example, and how often none.

    DALL-E 3 trains on 95 % synthetic captions and 5 % original ones. The share of originals holds
    for every clip that has both; a kind that a clip lacks leaves its share to the other.
    """

    original: float = 0.05
    """of texts that came with the file, whatever their kind"""
    short: float = 0.35
    dense: float = 0.60
    """of a captioner's texts; of several captioners the newest whose caption passed the checks"""
    dropped: float = 0.1
    """share of examples that get the empty prompt, for classifier-free guidance"""

    def __post_init__(self) -> None:
        shares = (self.original, self.short, self.dense)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError("caption mix", shares, "shares of at least 0 with a sum of 1")
        if not 0 <= self.dropped < 1:
            raise InputError("dropped", self.dropped, "0 <= dropped < 1")

    def usable(self, captions: ClipCaptions) -> dict[Caption, float]:
        """The captions that can be drawn -> the share of each; together 1, or none at all."""
        given: dict[Caption, float] = {}
        written: dict[str, Caption] = {}
        for caption in captions.captions:
            if caption.flaw or not caption.whole or not caption.text:
                continue
            own = caption.source == MANIFEST or caption.kind == "original"
            share = 1.0 if caption.kind == "original" else getattr(self, caption.kind)
            if not own and share:
                written[caption.kind] = caption
            elif own and (share or self.original):
                given[caption] = share
        synthetic = {caption: getattr(self, kind) for kind, caption in written.items()}
        original = self.original if synthetic else 1.0
        parts = ((given, original if given else 0.0), (synthetic, 1 - original if given else 1.0))
        return {
            caption: total * weight
            for weights, total in parts
            for caption, weight in _normalised(weights).items()
            if total * weight > 0
        }

    def drawn(self, captions: ClipCaptions, seed: int, epoch: int) -> Caption | None:
        """The caption of one example, by keyed randomness; None: the empty prompt."""
        key = (captions.clip_id, epoch)
        if uniform(seed, "drop caption", *key) < self.dropped:
            return None
        shares = self.usable(captions)
        place = uniform(seed, "caption kind", *key)
        index = int(np.searchsorted(np.cumsum(list(shares.values())), place, side="right"))
        return list(shares)[min(index, len(shares) - 1)]

    def draw(self, captions: ClipCaptions, seed: int, epoch: int) -> str:
        """The text of one example."""
        caption = self.drawn(captions, seed, epoch)
        return "" if caption is None else caption.text


def _normalised(weights: Mapping[Caption, float]) -> dict[Caption, float]:
    """Shares with a sum of 1; all alike where none has any weight."""
    total = sum(weights.values())
    return {c: w / total if total else 1 / len(weights) for c, w in weights.items()}


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """What a dataset's captions are, and what training sees of them: "dense videococa" -> share."""

    stored: dict[str, float]
    """of the clips, those that have such a caption and it can be used"""
    drawn: dict[str, float]
    """of the first epoch's examples; "none" is the empty prompt"""


@dataclass(frozen=True, kw_only=True)
class LoaderState:
    """Where the walk over the data stands: all that resuming needs."""

    epoch: int = 0
    cursor: int = 0
    """samples of the epoch's order that have been taken"""
    waiting: tuple[tuple[int, int], ...] = ()
    """(epoch, index of the sample) of those taken but not yet packed, oldest first"""


class PackLoader:
    """An endless stream of packs of the samples that have latents."""

    def __init__(
        self,
        latents: Sequence[LatentRow],
        captions: Mapping[str, ClipCaptions],
        *,
        read: Callable[[LatentRow], LatentVideo],
        embed: Callable[[str], Features],
        patch: Patch,
        packer: PackerConfig,
        mix: CaptionMix,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Samples that fit no pack or have no caption are left out, and listed in `too_long` and
        `uncaptioned`.

        Raises InputError when no sample remains.
        """
        self.read, self.embed, self.patch, self.mix = read, embed, patch, mix
        self.captions, self.seed = captions, seed
        self.rank, self.world_size = rank, world_size
        self.packer = Packer(packer)
        rows = sorted((r for r in latents if r.status == "ok"), key=lambda r: r.clip_id)
        spoken = {i for i, said in captions.items() if mix.usable(said)}
        self.uncaptioned = [r.clip_id for r in rows if r.clip_id not in spoken]
        rows = [r for r in rows if r.clip_id in spoken]
        lengths = [int(np.prod(patch_grid(_size(r), patch))) for r in rows]
        fits = [self.packer.fits(Item(sample_id="", num_tokens=n)) for n in lengths]
        self.rows = [r for r, ok in zip(rows, fits, strict=True) if ok]
        self.num_tokens = [n for n, ok in zip(lengths, fits, strict=True) if ok]
        self.too_long = [r.clip_id for r, ok in zip(rows, fits, strict=True) if not ok]
        if not self.rows:
            found = f"{len(rows)} rows, {len(self.uncaptioned)} more without a caption"
            raise InputError("latents", found, "captioned rows that fit a pack")
        self.index = {r.clip_id: i for i, r in enumerate(self.rows)}
        self.epoch, self.cursor = 0, 0
        self.order = self._order(0)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return generator(self.seed, "order", epoch).permutation(len(self.rows))

    def _fill(self) -> None:
        while len(self.packer.waiting) < self.packer.config.look_ahead:
            if self.cursor == len(self.order):
                self.epoch, self.cursor = self.epoch + 1, 0
                self.order = self._order(self.epoch)
            self.packer.waiting.append(self._item(self.epoch, int(self.order[self.cursor])))
            self.cursor += 1

    def _item(self, epoch: int, i: int) -> Item:
        row, num_tokens = self.rows[i], self.num_tokens[i]
        return Item(sample_id=row.clip_id, num_tokens=num_tokens, epoch=epoch)

    def next_items(self) -> list[Item]:
        """This rank's next pack as ids and lengths; every rank advances by world_size packs."""
        packs = []
        for _ in range(self.world_size):
            self._fill()
            packs.append(self.packer.pop())
        return packs[self.rank]

    def next_batch(self) -> PackedBatch:
        """This rank's next pack, read from storage."""
        return collate([self.sample(item) for item in self.next_items()])

    def sample(self, item: Item) -> Sample:
        """Read, patchify and caption one sample."""
        row = self.rows[self.index[item.sample_id]]
        video = self.read(row)
        text = self.mix.draw(self.captions[row.clip_id], self.seed, item.epoch)
        return to_sample(
            video,
            text=self.embed(text),
            patch=self.patch,
            sample_id=row.clip_id,
            epoch=item.epoch,
        )

    def proportions(self) -> Proportions:
        """How the captions of all ranks' samples are spread over kinds and sources."""
        stored: Counter[str] = Counter()
        drawn: Counter[str] = Counter()
        for row in self.rows:
            said = self.captions[row.clip_id]
            stored.update({_name(caption) for caption in self.mix.usable(said)})
            drawn[_name(self.mix.drawn(said, self.seed, epoch=0))] += 1
        count = len(self.rows)
        return Proportions(
            stored={name: n / count for name, n in sorted(stored.items())},
            drawn={name: n / count for name, n in sorted(drawn.items())},
        )

    def state(self) -> dict[str, Any]:
        """JSON-serialisable; the same on every rank and for every world size."""
        waiting = tuple((w.epoch, self.index[w.sample_id]) for w in self.packer.waiting)
        return asdict(LoaderState(epoch=self.epoch, cursor=self.cursor, waiting=waiting))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state exactly."""
        restored = LoaderState(**state)
        self.epoch, self.cursor = restored.epoch, restored.cursor
        self.order = self._order(self.epoch)
        self.packer.waiting = [self._item(epoch, i) for epoch, i in restored.waiting]

    def __iter__(self) -> Iterator[PackedBatch]:
        while True:
            yield self.next_batch()


def _name(caption: Caption | None) -> str:
    return "none" if caption is None else f"{caption.kind} {caption.source}"


def _size(row: LatentRow) -> tuple[int, int, int]:
    _, t, h, w = row.shape
    return t, h, w


def to_sample(
    video: LatentVideo,
    *,
    text: Features,
    patch: Patch,
    sample_id: str,
    epoch: int = 0,
    known: npt.NDArray[np.bool_] | None = None,
) -> Sample:
    """One video's latents as packed tokens; known is (L,) or None."""
    channels, *size = video.latents.shape
    extent = (size[0], size[1], size[2])
    grid = patch_grid(extent, patch)
    return Sample(
        sample_id=sample_id,
        tokens=patchify(video.latents, patch),
        valid=valid_values(extent, patch, channels),
        positions=positions(grid),
        grid=grid,
        text=text,
        fps=video.fps,
        known=known,
        epoch=epoch,
    )
