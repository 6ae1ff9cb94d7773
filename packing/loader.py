"""From the latents and captions tables to packs: resumable to the sample, on any number of ranks.

Every rank walks the same order and packs the same packs from metadata alone (clip ids and lengths),
then reads only its own: pack k belongs to rank k mod world_size. So N ranks with one pack each and
one rank with N packs see the same step, and the state is the same few numbers everywhere. Worker
threads read packs ahead; the state is that of the last pack which was handed out, so that a resume
knows nothing of them.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.packing.batch import PackedBatch, Sample, collate
from openreel.packing.drop import TokenDrop
from openreel.packing.packer import Item, Packer, PackerConfig
from openreel.packing.patches import Patch, patch_grid, patchify, positions, valid_values
from openreel.packing.plan import Kept
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


NOTHING_DROPPED = TokenDrop()


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
        drop: TokenDrop = NOTHING_DROPPED,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        """Samples that fit no pack or have no caption are left out: see `left_out`.

        workers: threads that read packs ahead, one pack each; read and embed must then be safe to
        call from several threads. 0 reads a pack when it is asked for. Raises InputError when no
        sample remains.
        """
        self.read, self.embed, self.patch, self.mix = read, embed, patch, mix
        self.captions, self.seed, self.drop = captions, seed, drop
        self.rank, self.world_size = rank, world_size
        self.packer = Packer(packer)
        self.left_out: dict[str, str] = {}
        """clip_id -> why no pack will hold it"""
        self._choose(latents)
        self.index = {r.clip_id: i for i, r in enumerate(self.rows)}
        self.epoch, self.cursor = 0, 0
        self.order = self._order(0)
        self._workers = ThreadPoolExecutor(workers, "packs") if workers else None
        self._depth = workers
        self._ahead: deque[tuple[LoaderState, Future[PackedBatch]]] = deque()
        self._handed_out: LoaderState | None = None

    def _choose(self, latents: Sequence[LatentRow]) -> None:
        """The rows that packs are made of, their tokens before any is dropped, and the others."""
        self.rows: list[LatentRow] = []
        self.num_tokens: list[int] = []
        for row in sorted((r for r in latents if r.status == "ok"), key=lambda r: r.clip_id):
            said = self.captions.get(row.clip_id)
            num_tokens = int(np.prod(patch_grid(_size(row), self.patch)))
            most, cap = self.drop.most(num_tokens), self.packer.config.most
            if said is None or not self.mix.usable(said):
                self.left_out[row.clip_id] = "no caption that the mix can draw"
            elif most > cap:
                self.left_out[row.clip_id] = f"{most} tokens; a pack holds at most {cap}"
            else:
                self.rows.append(row)
                self.num_tokens.append(num_tokens)
        if not self.rows:
            reasons = Counter(reason.split("; ")[-1] for reason in self.left_out.values())
            found = ", ".join(f"{n} x {reason}" for reason, n in reasons.items()) or "none"
            raise InputError("latents", found, "captioned rows that fit a pack")

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
        row = self.rows[i]
        num_tokens = self.drop.count(self.num_tokens[i], self.seed, row.clip_id, epoch)
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
        if self._workers is None:
            return self._batch(self.next_items())
        while len(self._ahead) <= self._depth:
            items = self.next_items()
            self._ahead.append((self._now(), self._workers.submit(self._batch, items)))
        state, reading = self._ahead.popleft()
        batch = reading.result()
        self._handed_out = state
        return batch

    def _batch(self, items: list[Item]) -> PackedBatch:
        return collate([self.sample(item) for item in items])

    def sample(self, item: Item) -> Sample:
        """Read, patchify, thin and caption one sample."""
        i = self.index[item.sample_id]
        row = self.rows[i]
        video = self.read(row)
        text = self.mix.draw(self.captions[row.clip_id], self.seed, item.epoch)
        return to_sample(
            video,
            text=self.embed(text),
            patch=self.patch,
            sample_id=row.clip_id,
            epoch=item.epoch,
            kept=self.drop.kept(self.num_tokens[i], self.seed, row.clip_id, item.epoch),
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
        return asdict(self._handed_out or self._now())

    def _now(self) -> LoaderState:
        waiting = tuple((w.epoch, self.index[w.sample_id]) for w in self.packer.waiting)
        return LoaderState(epoch=self.epoch, cursor=self.cursor, waiting=waiting)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state exactly."""
        restored = LoaderState(**state)
        self.epoch, self.cursor = restored.epoch, restored.cursor
        self.order = self._order(self.epoch)
        self.packer.waiting = [self._item(epoch, i) for epoch, i in restored.waiting]
        self._ahead.clear()
        self._handed_out = None

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
    kept: Kept | None = None,
) -> Sample:
    """One video's latents as packed tokens; known is (L,) over the whole grid, or None.

    kept: places of the tokens that stay, in their order and with their own positions; None: all.
    """
    channels, *size = video.latents.shape
    extent = (size[0], size[1], size[2])
    grid = patch_grid(extent, patch)
    stay = slice(None) if kept is None else kept
    return Sample(
        sample_id=sample_id,
        tokens=patchify(video.latents, patch)[stay],
        valid=valid_values(extent, patch, channels)[stay],
        positions=positions(grid)[stay],
        grid=grid,
        text=text,
        fps=video.fps,
        known=None if known is None else known[stay],
        epoch=epoch,
        kept=kept,
    )
