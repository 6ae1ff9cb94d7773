"""The distance of two videos in the features of a VGG-16 whose weights lie on this machine.

Layers and normalisation are LPIPS's (Zhang et al. 2018), its learned weights are not: all channels
count alike, and it is not called LPIPS.

    T H W C   frames, rows, columns, channels; pixels in [-1, 1]
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from openreel.pipeline.errors import InputError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TAPS = (3, 8, 15, 22)
"""after the last activation before each of the first four halvings"""


class Perceptual:
    """No module, so that a training neither updates nor stores the network."""

    def __init__(self, network: nn.Sequential) -> None:
        self.network = network.eval().requires_grad_(False)

    def distance(self, x_THWC: Tensor, y_THWC: Tensor) -> Tensor:
        """Squared distance of the features' directions, summed over layers; mean over positions."""
        self.network.to(x_THWC.device)
        levels = zip(self._features(x_THWC), self._features(y_THWC), strict=True)
        return torch.stack([(x - y).square().sum(1).mean() for x, y in levels]).sum()

    def _features(self, x_THWC: Tensor) -> list[Tensor]:
        mean, std = x_THWC.new_tensor(_MEAN), x_THWC.new_tensor(_STD)
        x = rearrange(((x_THWC + 1) / 2 - mean) / std, "t h w c -> t c h w")
        found = []
        for i, layer in enumerate(self.network):
            if isinstance(layer, nn.MaxPool2d) and min(x.shape[-2:]) < 2:
                break  # a picture this small has no coarser features
            x = layer(x)
            if i in _TAPS:
                found.append(F.normalize(x, dim=1, eps=1e-6))
        return found


def load_perceptual(path: Path) -> Perceptual:
    """torchvision's VGG-16 from its weights: the published .pth, or the same as .safetensors.

    Raises InputError if the file is not there, or holds another network. Nothing is unpickled but
    tensors.
    """
    from torchvision.models import vgg16

    with torch.device("meta"):  # or it would draw 138 million random numbers first
        network = vgg16(weights=None).features[: _TAPS[-1] + 1]
    try:
        own = {k.removeprefix("features."): v.float() for k, v in _read(path).items()}
        network.load_state_dict({k: own[k] for k in network.state_dict()}, assign=True)
    except KeyError as error:
        raise _refused(path, f"no tensor features.{error.args[0]}") from error
    except Exception as error:  # the readers raise what they like at a damaged file
        raise _refused(path, " ".join(str(error).split())[:200]) from error
    return Perceptual(network)


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: Mapping[str, Tensor] = load_file(path)
    else:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _refused(path: Path, reason: str) -> InputError:
    return InputError("perceptual", str(path), f"weights of torchvision's vgg16 ({reason})")
