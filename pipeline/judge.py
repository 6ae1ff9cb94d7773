"""Which clips are used: thresholds on scores that are already there.

A pure function of a clip's row. Scores are kept whatever the verdict, so that other thresholds can
be tried on the same table.
"""

import math
from dataclasses import dataclass, replace

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError

_NAMES = {"s": "seconds", "side": "shorter side", "text_area": "text"}
"""what reasons call a score, where it is not called by its field"""


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What a clip must have to be used. None of the defaults but three rejects anything.

    The three are for what nobody can use: clips too short to hold a movement (min_s), too small to
    hold a patch of any model (min_side), and pictures in which nothing is lighter than black
    (max_dark). Images are exempt from what is about time: min_s, max_static, max_black, min_motion
    and max_motion. None: no limit.
    """

    min_s: float = 0.5
    """seconds"""
    min_side: int = 32
    """pixels of the shorter side"""
    max_aspect: float | None = None
    """longer over shorter side"""
    min_luma: float = 0.0
    """mean brightness, 0 to 1"""
    max_luma: float = 1.0
    max_black: float = 1.0
    """share of the frames that are black on the whole, whatever small thing is lit in them"""
    max_static: float = 1.0
    """share of the frames that repeat the one before"""
    min_motion: float = 0.0
    """optical flow, in longer sides a second; a clip too short to have it measured is exempt"""
    max_motion: float | None = None
    min_sharpness: float = 0.0
    """0 blurred, 1 sharp"""
    max_blockiness: float | None = None
    """steps at the borders of blocks over steps elsewhere, minus 1"""
    max_text_area: float = 1.0
    """share of the picture"""
    max_dark: float = 0.9999
    """share of the picture that is black"""
    max_bright: float = 1.0
    """share of the picture that is white"""
    max_bars: float = 1.0
    """share of the picture that is bars"""
    min_aesthetic: float | None = None
    """for clips that have the score"""
    min_semantic: float | None = None
    """for clips that have the score"""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if value is None:
                continue
            signed = field in ("min_aesthetic", "min_semantic")
            if not math.isfinite(value) or (value < 0 and not signed):
                raise InputError(f"filters.{field}", value, "a number" if signed else "0 or more")
        if self.max_aspect is not None and self.max_aspect < 1:
            raise InputError("filters.max_aspect", self.max_aspect, "1 or more, or none")
        for score in ("luma", "motion"):
            least, most = getattr(self, f"min_{score}"), getattr(self, f"max_{score}")
            if most is not None and least > most:
                raise InputError(f"filters.min_{score}", least, f"at most max_{score} = {most:g}")


def judge(clip: Clip, config: FilterConfig) -> Clip:
    """The clip with the first reason against it, or ok.

    A reason is the rule that was broken and by which value: "sharpness below 0.3: 0.21".
    """
    limits = vars(config)
    for name, value in _scores(clip).items():
        least, most = limits.get(f"min_{name}"), limits.get(f"max_{name}")
        called = _NAMES.get(name, name)
        if value is None:
            continue
        if least is not None and value < least:
            reason = f"{called} below {least:g}: {value:.4g}"
        elif most is not None and value > most:
            reason = f"{called} above {most:g}: {value:.4g}"
        else:
            continue
        return replace(clip, status="rejected", reason=reason)
    return replace(clip, status="ok", reason="")


def _scores(clip: Clip) -> dict[str, float | None]:
    """Each score by the name in its thresholds, None where the clip is exempt from them."""
    video = clip.kind == "video"
    moving = video and (clip.camera != "unknown" or clip.motion > 0)
    seen = bool(clip.phashes)
    sides = sorted((clip.width, clip.height))
    inside = clip.crop_width * clip.crop_height / (clip.width * clip.height)
    return {
        # A millisecond is less than any frame lasts, and more than the rounding of a tick.
        "s": round(clip.num_frames / clip.fps, 3) if video else None,
        "side": sides[0],
        "aspect": sides[1] / sides[0],
        "luma": clip.luma,
        "black": clip.black if video else None,
        "static": clip.static if video else None,
        "motion": clip.motion if moving else None,
        "sharpness": clip.sharpness if seen else None,
        "blockiness": clip.blockiness if seen else None,
        "text_area": clip.text_area if seen else None,
        "dark": clip.dark if seen else None,
        "bright": clip.bright if seen else None,
        "bars": 1 - inside if seen else None,
        "aesthetic": clip.aesthetic,
        "semantic": clip.semantic,
    }
