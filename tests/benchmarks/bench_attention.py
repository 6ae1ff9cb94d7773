"""Packed attention on this device against one masked attention and against padding.

`python -m tests.benchmarks.bench_attention`: forward and backward, 24 ragged segments.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openreel.dit.attention import Backend, Segments, attend
from tests.benchmarks.timing import interleaved, report


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = tuple(int(n) for n in torch.randint(16, 160, (24,), generator=generator))
    total = sum(lengths)
    segments = Segments(lengths, lengths, torch.device("cpu"))
    q, k, v = (torch.randn(total, 6, 32, generator=generator, requires_grad=True) for _ in range(3))

    def packed(backend: Backend) -> None:
        attend(q, k, v, segments, backend).square().sum().backward()  # type: ignore[no-untyped-call]

    def padded() -> None:
        def batch(x: Tensor) -> Tensor:
            return rearrange(
                pad_sequence(list(x.split(lengths)), batch_first=True), "b l n k -> b n l k"
            )

        mask = pad_sequence([torch.ones(n, dtype=torch.bool) for n in lengths], batch_first=True)
        out = F.scaled_dot_product_attention(
            batch(q), batch(k), batch(v), attn_mask=rearrange(mask, "b l -> b 1 1 l")
        )
        (out * rearrange(mask, "b l -> b 1 l 1")).square().sum().backward()  # type: ignore[no-untyped-call]

    seconds = interleaved(
        {
            "stacked": lambda: packed("sdpa"),
            "masked": lambda: packed("reference"),
            "padded": padded,
        }
    )
    base = seconds["stacked"]
    report(
        "attention",
        [
            ("time, one masked attention", "stacked segments", f"{seconds['masked'] / base:.1f}x"),
            ("time, padded batch", "stacked segments", f"{seconds['padded'] / base:.2f}x"),
        ],
    )


if __name__ == "__main__":
    main()
