"""Which of a captioner's weights are tuned: the variants that VideoCoCa compares (2212.04979).

    all              everything
    frozen_encoder   all but CoCa's image encoder: poolers, text layers, additions for motion
    poolers          the attentional pooler, what reads it out, and the contrast's temperature

The additions for motion are no part of the encoder that was trained on images, so that they can be
learnt beside one that is frozen.
"""

from typing import Literal

from openreel.recaption.videococa import VideoCoCa

Tuned = Literal["all", "frozen_encoder", "poolers"]

_ENCODER = "coca.visual."
_POOLERS = (
    "coca.visual.attn_pool.",
    "coca.visual.ln_post.",
    "coca.visual.proj",
    "coca.logit_scale",
)


def is_tuned(name: str, tuned: Tuned) -> bool:
    """Whether a parameter of VideoCoCa, by its name, is tuned."""
    match tuned:
        case "all":
            return True
        case "frozen_encoder":
            return not name.startswith(_ENCODER) or name.startswith(_POOLERS)
        case "poolers":
            return name.startswith(_POOLERS)


def freeze(model: VideoCoCa, tuned: Tuned) -> None:
    """Gradients for the tuned parameters alone; an optimiser must leave the others out."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_tuned(name, tuned))
