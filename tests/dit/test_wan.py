"""The block is a superset of Wan 2.1's: diffusers' own model, converted, is the oracle."""

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from einops import rearrange
from torch import Tensor

from openreel.dit.config import DiTConfig
from openreel.dit.model import DiT
from openreel.packing.batch import Sample, collate
from openreel.packing.patches import (
    Patch,
    patch_grid,
    patchify,
    positions,
    unpatchify,
    valid_values,
)

PATCH: Patch = (1, 2, 2)


def tiny_wan() -> WanTransformer3DModel:
    torch.manual_seed(0)
    wan = WanTransformer3DModel(
        patch_size=PATCH,
        num_attention_heads=4,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        text_dim=20,
        freq_dim=64,
        ffn_dim=160,
        num_layers=3,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )
    for parameter in wan.parameters():  # zero-initialised parts would hide mistakes
        torch.nn.init.normal_(parameter, std=0.05)
    return wan.eval()


def converted(wan: WanTransformer3DModel) -> DiT:
    """Wan's weights under our names."""
    config = DiTConfig(
        latent_channels=4,
        text_dim=20,
        dim=96,
        depth=3,
        num_heads=4,
        mlp_ratio=160 / 96,
        time_dim=64,
    )
    names = {
        "condition_embedder.time_embedder.linear_1": "embed_level.0",
        "condition_embedder.time_embedder.linear_2": "embed_level.2",
        "condition_embedder.text_embedder.linear_1": "embed_text.0",
        "condition_embedder.text_embedder.linear_2": "embed_text.2",
        "condition_embedder.time_proj": "project_rows",
        "patch_embedding": "embed_tokens",
        "proj_out": "head",
        "scale_shift_table": "head_modulation",
        "attn1": "attention",
        "attn2": "cross_attention",
        "to_out.0": "to_out",
        "norm2": "cross_norm",
        "ffn.net.0.proj": "mlp.0",
        "ffn.net.2": "mlp.2",
    }
    state: dict[str, Tensor] = {}
    for name, value in wan.state_dict().items():
        if name.startswith("blocks") and name.endswith("scale_shift_table"):
            state[name.replace("scale_shift_table", "modulation")] = value[0]
            continue
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        if name == "embed_tokens.weight":
            value = rearrange(value, "d c p q r -> d (c p q r)")
        if name.startswith("head."):  # Wan's head is channels last inside a patch
            value = rearrange(value, "(p q r c) ... -> (c p q r) ...", p=1, q=2, r=2)
        state[name] = value[0] if name == "head_modulation" else value
    dit = DiT(config)
    dit.load_state_dict(state)
    return dit.eval()


@torch.no_grad()
def test_two_shapes_in_one_pack_equal_wan_run_on_each() -> None:
    wan = tiny_wan()
    dit = converted(wan)
    generator = torch.Generator().manual_seed(1)
    sizes, levels, text_lengths = [(3, 8, 12), (1, 10, 4)], torch.tensor([0.3, 0.9]), [7, 4]
    latents = [torch.randn(4, *size, generator=generator) for size in sizes]
    texts = [torch.randn(n, 20, generator=generator) for n in text_lengths]
    theirs = [
        wan(x[None], timestep=1000 * level[None], encoder_hidden_states=text[None]).sample[0]
        for x, level, text in zip(latents, levels, texts, strict=True)
    ]
    samples = [
        Sample(
            sample_id=str(size),
            tokens=patchify(x.numpy(), PATCH),
            valid=valid_values(size, PATCH, 4),
            positions=positions(patch_grid(size, PATCH)),
            grid=patch_grid(size, PATCH),
            text=text.numpy(),
            fps=8.0,
        )
        for size, x, text in zip(sizes, latents, texts, strict=True)
    ]
    batch = collate(samples).map(torch.as_tensor)
    packed = dit(batch.tokens, levels, batch.text, dit.layout(batch))
    for segment, size, expected in zip(batch.segments(), sizes, theirs, strict=True):
        ours = unpatchify(packed[segment.tokens], size, PATCH)
        assert expected.abs().mean() > 0.01
        np.testing.assert_allclose(ours, expected, atol=1e-5)
