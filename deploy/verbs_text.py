"""The verbs that deal in words: captions of clips, embeddings of captions, prompts."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from openreel.deploy.verbs import described, recipe, show


@dataclass(frozen=True, kw_only=True)
class Recaption:
    """Clips to captions."""

    dataset: Positional[Path]
    captioner: Path
    """a captioner's folder, such as RUN/model"""
    recipe: str = "demo"
    retry_failed: bool = False
    dry_run: bool = False

    def run(self) -> None:
        from openreel.deploy.stations import clips_of
        from openreel.deploy.stations_text import recaption

        config = recipe(self.recipe).recaption
        if self.dry_run:
            show(described(config) | {"clips": len(clips_of(self.dataset))})
            return
        recaption(config, self.dataset, self.captioner, self.retry_failed)
