"""The verbs that deal in words: captions of clips, embeddings of captions, prompts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from openreel.deploy.verbs import described, recipe, show


@dataclass(frozen=True, kw_only=True)
class Recaption:
    """Clips to captions; another captioner's are put beside those that are there."""

    dataset: Positional[Path]
    captioner: str
    """videococa:FOLDER (or just the folder, such as RUN/model), vlm:FOLDER or endpoint:URL"""
    recipe: str = "demo"
    again: bool = False
    """ask for another take of clips that this captioner has written about"""
    retry_failed: bool = False
    device: str | None = None
    """cpu or cuda; None: the recipe's"""
    min_agreement: float | None = None
    """of clip and caption, below which a caption is not used; None: the recipe's. openreel eval
    captions --calibrate finds it"""
    model: str = ""
    """of an endpoint: the name that its server knows it by"""
    key_variable: str = ""
    """of an endpoint: the environment variable that holds the key"""
    requests_per_minute: float = 0.0
    """of an endpoint: 0 is no limit"""
    price_in: float = 0.0
    price_out: float = 0.0
    """of an endpoint: of a million tokens, for the count of what it costs"""
    dry_run: bool = False

    def run(self) -> None:
        from functools import partial

        from openreel.deploy import stations_text
        from openreel.deploy.captions_page import summary, write_captions_page
        from openreel.deploy.stations import clips_of
        from openreel.recaption.endpoint import EndpointConfig

        config = recipe(self.recipe).recaption
        if self.device is not None:
            config = replace(config, device=self.device)
        if self.min_agreement is not None:
            checks = replace(config.checks, min_agreement=self.min_agreement)
            config = replace(config, checks=checks)
        endpoint = partial(
            EndpointConfig,
            model=self.model,
            key_variable=self.key_variable,
            requests_per_minute=self.requests_per_minute,
            price_in=self.price_in,
            price_out=self.price_out,
        )
        if self.dry_run:
            plan = stations_text.captioner_of(config, self.captioner, endpoint)
            told = {"captioner": f"{plan.source} {plan.identity}", "prompts": dict(plan.prompts)}
            show(described(config) | told | {"clips": len(clips_of(self.dataset))})
            return
        folder = stations_text.recaption(
            config,
            self.dataset,
            self.captioner,
            self.retry_failed,
            again=self.again,
            endpoint=endpoint,
        )
        show(summary(folder))
        show(f"{write_captions_page(self.dataset)}: pictures, captions and what the checks say")


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Captions to the features that the denoiser reads, each text once."""

    dataset: Positional[Path]
    text: str
    """captioner:FOLDER, t5:FOLDER, umt5:FOLDER or clip:FOLDER"""
    dtype: Literal["float32", "float16"] = "float32"
    """of the files; training takes float32 where both are there"""
    device: str = "cpu"
    retry_failed: bool = False
    dry_run: bool = False

    def run(self) -> None:
        from openreel.deploy.stations_text import captions_of, embed, stored_texts, usable_texts
        from openreel.recaption.embed import EmbedConfig
        from openreel.recaption.text import text_identity

        config = EmbedConfig(dtype=self.dtype, device=self.device)
        texts = usable_texts(captions_of(self.dataset).values())
        store = stored_texts(self.dataset, text_identity(self.text), self.dtype)
        if self.dry_run:
            known = sum(text in store for text in texts)
            show(described(config) | {"texts": len(texts), "embedded": known})
            return
        store = embed(config, self.dataset, self.text, self.retry_failed)
        known = sum(text in store for text in texts)
        reasons = sorted(set(store.failed.values()))
        why = f"; not embedded: {len(texts) - known} ({', '.join(reasons)})" if reasons else ""
        show(f"{known} of {len(texts)} texts in {store.folder}{why}")
