"""What the demo's page shows: plain records, which `openreel.deploy.page` draws as they are.

T H W   frames, rows, columns
"""

from dataclasses import dataclass

from openreel.deploy.charts import Curve, Segment
from openreel.deploy.checker import Score, Summary
from openreel.pipeline.media import Frames


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was run, on what, and how long each station took."""

    command: str
    versions: tuple[tuple[str, str], ...]
    seconds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class ClipCard:
    """One clip, or one that was judged and is not used."""

    name: str
    frame: Frames | None
    """(H, W, 3); None where the file cannot be read any more"""
    facts: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RefusedFile:
    """A file of which nothing is used."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Curation:
    """What came in, what is used, and why the rest is not."""

    funnel: tuple[tuple[str, int, int, int], ...]
    """(table, ok, rejected, failed)"""
    seconds_used: float
    cards: tuple[ClipCard, ...]
    refused: tuple[RefusedFile, ...]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A caption word by word; agreed is None where there is no truth to compare with."""

    words: tuple[tuple[str, bool | None], ...]
    flaw: str = ""
    """why the caption is not used; empty if it is"""


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One clip with its texts."""

    frames: Frames
    """(T, H, W, 3), a few of them"""
    truth: str
    """empty where no text came with the file"""
    short: Said
    dense: Said


@dataclass(frozen=True, kw_only=True)
class Captioning:
    """Captions beside the truth."""

    exact_short: float | None
    exact_dense: float | None
    """shares of the clips with a truth that were captioned with just that; None: no such clip"""
    num_compared: int
    num_flawed: int
    """captions of all clips and both kinds that are not used"""
    examples: tuple[Captioned, ...]


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One clip through the autoencoder and back."""

    facts: str
    original: Frames
    decoded: Frames
    """(T, H, W, 3) each, the same few frames"""
    psnr: float
    """dB, over all frames of the clip"""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How the denoiser's batches are filled."""

    packs: tuple[tuple[Segment, ...], ...]
    capacity: int
    """tokens"""
    mean_fill: float
    """0 to 1, over num_packs packs"""
    num_packs: int


@dataclass(frozen=True, kw_only=True)
class Video:
    """One generated video."""

    prompt: str
    expanded: str
    size_in_words: str
    facts: str
    width: int
    height: int
    content: bytes
    """the MP4"""
    link: str
    sidecar: str
    """addresses relative to the page"""


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The checker's results of the trained and of an untrained denoiser, prompt by prompt."""

    trained: tuple[Score, ...]
    untrained: tuple[Score, ...]
    trained_summary: Summary
    untrained_summary: Summary


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything on the page, in the order in which it was made."""

    run: Run
    curation: Curation
    captioning: Captioning
    reconstructions: tuple[Reconstruction, ...]
    packing: Packing
    curves: tuple[Curve, ...]
    videos: tuple[Video, ...]
    checks: Checks
