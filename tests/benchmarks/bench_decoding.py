"""Captions a second with the key-value cache, against the loop that open_clip uses.

`python -m tests.benchmarks.bench_decoding`: open_clip's CoCa runs the whole model on all ids for
each new one. Same weights, same clips, same ids in the end (asserted), random weights that never
choose the end, one thread: with more of them the ratio depends on who else uses the machine.

    B clips, Q the clip's tokens, K ids, E width
"""

import torch
from torch import Tensor

from openreel.recaption.decoding import Decoded, Decoding, write_captions
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa, VideoCoCaConfig, tiny
from tests.benchmarks.timing import interleaved, report

CONTEXT = 76
WORDS = CaptionTokenizer.fit(
    [
        "A large red circle moves left and a small blue bar moves up across a dark striped "
        "background. The camera pans right."
    ],
    context_length=CONTEXT,
)
VIT_B_32 = VideoCoCaConfig(
    patch_size=32,
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    width=512,
    heads=8,
)
"""open_clip's coca_ViT-B-32"""


@torch.inference_mode()
def uncached(model: VideoCoCa, words: CaptionTokenizer, seen_BQE: Tensor) -> list[list[int]]:
    """All ids again for each new one; what open_clip does besides is left out."""
    ids_BK = torch.full((len(seen_BQE), 1), words.start("dense"))
    while ids_BK.shape[1] < words.context_length:
        tokens_BKE = model.coca.text(ids_BK)[1]
        logits_BV = model.coca.text_decoder(seen_BQE, tokens_BKE)[:, -1]
        logits_BV[:, list(words.unspeakable)] = float("-inf")
        ids_BK = torch.cat([ids_BK, logits_BV.argmax(-1, keepdim=True)], 1)
    return ids_BK[:, 1:].tolist()


def compared(config: VideoCoCaConfig, words: CaptionTokenizer, clips: int, repeats: int) -> str:
    """How many times more ids a second, with the rates."""
    torch.manual_seed(0)
    model = VideoCoCa(config).eval()
    with torch.no_grad():  # the end's logit is 0, far below the likeliest
        model.coca.text_decoder.text_projection[:, words.end] = 0
    seen_BQE = torch.randn(clips, config.num_queries - 1, config.width)
    found: dict[str, list[list[int]]] = {}

    def cached() -> None:
        names = [str(i) for i in range(clips)]
        captions: list[Decoded] = write_captions(model, words, seen_BQE, "dense", names, Decoding())
        found["cached"] = [list(caption.ids) for caption in captions]

    def whole() -> None:
        found["uncached"] = uncached(model, words, seen_BQE)

    seconds = interleaved({"cached": cached, "uncached": whole}, repeats)
    assert found["cached"] == found["uncached"], "not the same captions"
    total = sum(map(len, found["cached"]))
    assert total == clips * (CONTEXT - 1), "a caption ended early"
    rates = [total / seconds[name] for name in ("cached", "uncached")]
    return f"{rates[0] / rates[1]:.1f}x ({rates[0]:,.0f} and {rates[1]:,.0f} ids a second)"


def main() -> None:
    torch.set_num_threads(1)
    against = "open_clip's loop without a cache"
    published = CaptionTokenizer(context_length=CONTEXT)
    figure = compared(VIT_B_32, published, 1, 3)
    rows = [("decoding, ViT-B/32 (254 M), batch 1", against, figure)]
    for clips in (1, 32):
        figure = compared(tiny(WORDS.vocab_size, CONTEXT), WORDS, clips, 5)
        rows.append((f"decoding, tiny model, batch {clips}", against, figure))
    report("decoding", rows)


if __name__ == "__main__":
    main()
