"""The verb `openreel eval vae`."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from openreel.deploy.verbs import Output, show, writable
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Judge what was trained: see openreel eval vae --help."""

    def run(self) -> None:
        raise InputError("eval", "nothing", "what is judged, such as `openreel eval vae`")


@dataclass(frozen=True, kw_only=True)
class EvalVae:
    """How good an autoencoder's reconstructions are: PSNR, SSIM, MS-SSIM, flicker, drift, grids."""

    inputs: Positional[tuple[str, ...]]
    """media files, folders of them, or datasets"""
    vae: str
    """an autoencoder's folder, or diffusers:FOLDER"""
    output: Output = Path("eval-vae")
    """where eval.json and sheet.png go"""
    limit: int = 16
    """clips at most, taken evenly"""
    max_frames: int | None = 33
    """of a clip; None is all"""
    max_area: int | None = None
    """width x height above which a clip is scaled down; None is native"""
    lpips: Path | None = None
    """a TorchScript file with LPIPS; without it the figure is left out"""
    fvd: Path | None = None
    """a TorchScript file with FVD's I3D; without it the figure is left out"""
    passes: int = 10
    """how often two of the clips go through, one pass after the other"""
    budget_mib: int = 4096
    """memory for activations"""
    device: str = "cpu"

    def run(self) -> None:
        from openreel.deploy.eval_vae import evaluate, rendered
        from openreel.vae.run import EncodeConfig

        for field in ("limit", "passes"):
            if getattr(self, field) < 1:
                raise InputError(field, getattr(self, field), "1 or more")
        config = EncodeConfig(
            max_area=self.max_area,
            max_frames=self.max_frames,
            device=self.device,
            budget_mib=self.budget_mib,
        )
        found = evaluate(
            self.vae,
            self.inputs,
            writable(self.output),
            config,
            limit=self.limit,
            lpips=self.lpips,
            fvd=self.fvd,
            passes=self.passes,
        )
        show(rendered(found))
        show(f"{self.output / 'eval.json'}, {self.output / 'sheet.png'}")
