"""With one frame VideoCoCa is CoCa; with many, order matters only through the additions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.recaption.motion import Stem
from openreel.recaption.tokenizer import NUM_BPE, CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa, VideoCoCaConfig, positions, tiny
from openreel.recaption.weights import load_captioner, load_open_clip, save_captioner

SMALL = replace(
    tiny(vocab_size=40, context_length=12),
    **{"num_frames": 6, "image_size": 16, "vision_width": 32, "width": 32},
)


def model_of(motion: bool) -> VideoCoCa:
    """A model whose every parameter has been moved, as after training."""
    torch.manual_seed(0)
    model = VideoCoCa(replace(SMALL, temporal=motion, stem=motion))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def video(batch: int, frames: int) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("motion", [False, True])
def test_one_frame_is_open_clips_coca_bit_for_bit(motion: bool) -> None:
    model, images = model_of(motion), video(3, 1)
    with torch.no_grad():
        expected = model.coca._encode_image(images[:, 0])
        actual = model.encode_video(images)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("motion", [False, True])
def test_it_stays_coca_after_training_steps(motion: bool) -> None:
    model = model_of(motion).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.parameters()]
    for _ in range(2):
        clip_BE, seen_BQE = model.encode_video(video(2, 4))
        optimiser.zero_grad()
        (clip_BE[:, 0].sum() + seen_BQE.square().mean()).backward()
        optimiser.step()
    if motion:
        changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        names = [name for name, _ in model.named_parameters()]
        additions = [c for n, c in zip(names, changed, strict=True) if not n.startswith("coca.")]
        assert len(additions) == 10
        assert all(additions)
    images = video(2, 1)
    with torch.no_grad():
        pairs = zip(model.encode_video(images), model.coca._encode_image(images[:, 0]), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_without_the_additions_frames_are_a_bag_and_with_them_they_are_not() -> None:
    clip, shuffled = video(2, 5), video(2, 5)[:, [3, 0, 4, 1, 2]]
    for motion in (False, True):
        model = model_of(motion)
        with torch.no_grad():
            a, b = model.encode_video(clip)[1], model.encode_video(shuffled)[1]
        assert torch.allclose(a, b, atol=1e-5) is not motion


@pytest.mark.parametrize("motion", [False, True])
def test_clips_of_mixed_lengths_and_grids_equal_each_alone_whatever_lies_outside(
    motion: bool,
) -> None:
    model = model_of(motion)
    # Two grids of four patches and two of two, so that some share a grid and others a length.
    sizes = torch.tensor([[6, 16, 16], [2, 8, 32], [1, 16, 16], [6, 8, 16], [6, 8, 32], [3, 16, 8]])
    assert len({(h, w) for _, h, w in sizes.tolist()}) == 4
    clips = torch.full((6, 6, 3, 16, 32), 1e3)
    alone = []
    for b, (t, h, w) in enumerate(sizes.tolist()):
        whole = torch.randn(1, t, 3, h, w, generator=torch.Generator().manual_seed(b))
        clips[b, :t, :, :h, :w] = whole[0]
        alone.append(whole)
    with torch.no_grad():
        together = model.encode_video(clips, sizes)
        for b, clip in enumerate(alone):
            for ours, theirs in zip(together, model.encode_video(clip), strict=True):
                torch.testing.assert_close(ours[b], theirs[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("motion", [False, True])
def test_an_image_of_another_aspect_needs_no_additions_either(motion: bool) -> None:
    """Equal weights but for the additions: a first frame is the same, in any grid, to the bit."""
    model, image = model_of(motion), torch.randn(1, 1, 3, 8, 32)
    plain = VideoCoCa(replace(SMALL, temporal=False, stem=False)).eval()
    plain.coca.load_state_dict(model.coca.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(model.encode_video(image), plain.encode_video(image), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("patch", [4, 6, 8, 14, 16])
def test_the_stem_has_a_token_for_each_patch_and_none_for_a_first_frame(patch: int) -> None:
    torch.manual_seed(0)
    stem = Stem(patch, 12)
    frames = torch.randn(5, 3, 2 * patch, 3 * patch)
    tokens_NPD = stem(frames, [3, 2])
    assert tokens_NPD.shape == (5, 6, 12)
    still = tokens_NPD.abs().amax((1, 2)) == 0
    assert still.tolist() == [True, False, False, True, False]
    torch.testing.assert_close(stem(frames[3:], [2]), tokens_NPD[3:], atol=1e-6, rtol=1e-5)


def test_positions_of_another_grid_are_pillows_bicubic_and_the_square_is_itself() -> None:
    """The oracle enlarges each channel as a picture; the class token keeps its vector."""
    square_PD = torch.randn(1 + 16, 3, generator=torch.Generator().manual_seed(0))
    assert positions(square_PD, 4, 4) is square_PD
    wide_PD = positions(square_PD, 4, 8)
    assert torch.equal(wide_PD[0], square_PD[0])
    for d in range(3):
        channel = Image.fromarray(square_PD[1:, d].reshape(4, 4).numpy())
        # Pillow's kernel has a = -0.5, torch's -0.75: equal to a few percent, far from a transpose.
        oracle = np.asarray(channel.resize((8, 4), Image.Resampling.BICUBIC))
        ours = wide_PD[1:, d].reshape(4, 8).numpy()
        assert np.abs(ours - oracle).max() < 0.25 * np.abs(oracle - oracle.mean()).max()
        assert np.corrcoef(ours.ravel(), oracle.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("legacy", [False, True])
def test_text_and_logits_are_open_clips_and_the_class_mask_follows_the_config(legacy: bool) -> None:
    torch.manual_seed(0)
    model = VideoCoCa(replace(SMALL, legacy_cls_mask=legacy)).eval()
    assert model.coca.text.correct_cls_mask is not legacy
    tokenizer = CaptionTokenizer.fit(["a red ball moves right"], context_length=12)
    text_BK = tokenizer.encode(["a red ball"], ["short"])
    with torch.no_grad():
        oracle = model.coca(video(1, 1)[:, 0], text_BK)
        _, seen_BQE = model.encode_video(video(1, 1))
        text_BE, tokens_BKE = model.encode_text(text_BK)
        logits_BKV = model.read(seen_BQE, tokens_BKE)
    assert torch.equal(text_BE, oracle["text_features"])
    torch.testing.assert_close(logits_BKV[:, :-1], oracle["logits"], atol=1e-5, rtol=1e-5)
    assert float(logits_BKV.std()) > 0.1, "the output projection was never filled"


def test_the_paper_configuration_is_open_clips_published_one_without_additions() -> None:
    from open_clip.factory import get_model_config

    published, ours = get_model_config("coca_ViT-L-14"), VideoCoCaConfig()
    assert not ours.temporal
    assert not ours.stem
    assert ours.legacy_cls_mask
    assert ours.width == published["embed_dim"] == published["text_cfg"]["width"]
    vision, text, decoder = (published[f"{n}_cfg"] for n in ("vision", "text", "multimodal"))
    assert (ours.image_size, ours.patch_size) == (vision["image_size"], vision["patch_size"])
    assert (ours.vision_width, ours.vision_layers) == (vision["width"], vision["layers"])
    assert (ours.context_length, ours.heads) == (text["context_length"], text["heads"])
    assert (ours.text_layers, ours.multimodal_layers) == (text["layers"], decoder["layers"])
    assert ours.pooler_heads == vision["attn_pooler_heads"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_published_weights_load_and_caption_as_the_image_model(tmp_path: Path, suffix: str) -> None:
    from open_clip.coca_model import CoCa
    from safetensors.torch import save_file

    torch.manual_seed(0)
    text = {"context_length": 12, "vocab_size": NUM_BPE, "width": 8, "heads": 2, "layers": 1}
    published = CoCa(
        embed_dim=8,
        multimodal_cfg=text,
        text_cfg={**text, "embed_cls": True, "output_tokens": True},
        vision_cfg={
            **{"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8},
            **{"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2},
            "output_tokens": True,
        },
    ).eval()
    torch.nn.init.normal_(published.text_decoder.text_projection)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        state = {f"module.{k}": v for k, v in published.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(published.state_dict(), path)
    config = VideoCoCaConfig(
        **{"context_length": 12, "image_size": 16, "patch_size": 8, "vision_width": 32},
        **{"vision_layers": 1, "vision_heads": 4, "num_queries": 5, "pooler_heads": 2},
        **{"width": 8, "heads": 2, "text_layers": 1, "multimodal_layers": 1},
    )
    for motion in (False, True):
        captioner = load_open_clip(path, replace(config, temporal=motion, stem=motion))
        ids = captioner.tokenizer.encode(["a red ball"], ["original"])
        short = captioner.tokenizer.encode(["a red ball"], ["short"])
        with torch.no_grad():
            oracle = published(video(1, 1)[:, 0], ids)
            for text_BK in (ids, short):
                clip_BE, seen_BQE = captioner.model.encode_video(video(1, 1))
                logits = captioner.model.read(seen_BQE, captioner.model.encode_text(text_BK)[1])
                assert torch.equal(clip_BE, oracle["image_features"])
                torch.testing.assert_close(logits[:, :-1, :NUM_BPE], oracle["logits"])
    with pytest.raises(InputError, match="weights"):
        load_open_clip(path, replace(config, vision_layers=2))


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": Path("anything")}, path)
    with pytest.raises(InputError, match=r"safetensors or a pickle of tensors"):
        load_open_clip(path, VideoCoCaConfig())


def test_a_saved_captioner_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tokenizer = CaptionTokenizer.fit(["a red ball moves right"], context_length=12)
    model = VideoCoCa(replace(SMALL, vocab_size=tokenizer.vocab_size)).eval()
    save_captioner(tmp_path, model.config, tokenizer, model.state_dict())
    again = load_captioner(tmp_path)
    assert again.tokenizer == tokenizer
    assert again.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(InputError, match=r"captioner.*vocabulary\.json"):
        load_captioner(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"patch_size": 7}, "patch_size"), ({"heads": 5}, "heads"), ({"num_frames": 0}, "num_frames")],
)
def test_impossible_sizes_are_named(change: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: got"):
        replace(SMALL, **change)


def test_more_frames_than_there_are_temporal_embeddings_is_an_error() -> None:
    with pytest.raises(InputError, match="frames: got 7"):
        model_of(True).encode_video(video(1, 7))


def test_features_have_unit_length() -> None:
    with torch.no_grad():
        clip_BE, _ = model_of(True).encode_video(video(2, 3))
    torch.testing.assert_close(clip_BE, F.normalize(clip_BE, dim=-1))
