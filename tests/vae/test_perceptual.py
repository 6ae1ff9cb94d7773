"""The perceptual term, with random weights in the shape of the published ones."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from openreel.pipeline.errors import InputError
from openreel.vae.perceptual import load_perceptual


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torchvision publishes them: the classifier's too (here: two of its numbers)."""
    from torchvision.models import vgg16

    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = vgg16(weights=None).features.state_dict()
    state = {
        f"features.{k}": torch.randn(v.shape, generator=random) / v[0].numel() ** 0.5
        for k, v in shapes.items()
    }
    state["classifier.0.bias"] = torch.zeros(2)
    folder = tmp_path_factory.mktemp("vgg")
    torch.save(state, folder / "vgg16.pth")
    save_file(state, folder / "vgg16.safetensors")
    return folder


def test_it_is_the_distance_of_the_features_of_lpips(weights: Path) -> None:
    from torchvision.models import vgg16
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.transforms.functional import normalize

    stored = torch.load(weights / "vgg16.pth")
    with torch.device("meta"):
        network = vgg16(weights=None)
    network.features.load_state_dict(
        {k.removeprefix("features."): v for k, v in stored.items() if "features" in k}, assign=True
    )
    layers = {"features.3": "a", "features.8": "b", "features.15": "c", "features.22": "d"}
    extract = create_feature_extractor(network.eval(), layers)
    x, y = torch.rand(2, 2, 20, 33, 3) * 2 - 1
    pictures = [
        normalize(v.permute(0, 3, 1, 2) / 2 + 0.5, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        for v in (x, y)
    ]
    expected = torch.zeros(())
    for a, b in zip(*(extract(p).values() for p in pictures), strict=True):
        expected += 2 - 2 * F.cosine_similarity(a, b, dim=1).mean()
    for name in ("vgg16.pth", "vgg16.safetensors"):
        found = load_perceptual(weights / name).distance(x, y)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    assert found > 1e-3


def test_the_picture_gets_a_gradient_and_the_network_none(weights: Path) -> None:
    perceptual = load_perceptual(weights / "vgg16.safetensors")
    x = torch.rand(1, 1, 1, 3, requires_grad=True)
    assert perceptual.distance(x, x).item() == 0
    perceptual.distance(x, torch.rand(1, 1, 1, 3)).backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in perceptual.network.parameters())


def test_other_files_are_refused_in_one_line(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"not a file of tensors" * 9)
    (tmp_path / "noise.safetensors").write_bytes(b"nor this" * 9)
    save_file({"features.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    names = ("missing.pth", "noise.pth", "noise.safetensors", "other.safetensors")
    for name in names:
        with pytest.raises(InputError, match=r"^perceptual: got .*torchvision's vgg16") as caught:
            load_perceptual(tmp_path / name)
        assert "\n" not in str(caught.value)
