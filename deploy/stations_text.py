"""The stations that deal in words, as functions: training a captioner, captioning, embedding."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import get_args

from openreel.deploy.recipes import CaptionerRecipe
from openreel.deploy.stations import clips_of, run_training
from openreel.dit.checkpoint import Resume
from openreel.dit.distributed import initialise
from openreel.pipeline.clip import Status, digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import stream_clip
from openreel.pipeline.progress import progress
from openreel.pipeline.stage import run_stage
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.embed import EmbedConfig, embed_texts
from openreel.recaption.endpoint import EndpointConfig
from openreel.recaption.run import RecaptionConfig, fingerprint, recaption_stage
from openreel.recaption.tables import place_of, read_captions
from openreel.recaption.text import load_text_encoder, text_identity
from openreel.recaption.text_store import Dtype, FeatureReader, TextStore, store_folder
from openreel.recaption.train import CaptionerTask, texts_of
from openreel.recaption.weights import (
    captioner_digest,
    load_captioner,
    longest,
    new_captioner,
    with_context,
)
from openreel.recaption.writers import WriterPlan, writer_of

TEXT_FOLDER = "text"
"""in a dataset's folder: embedded texts"""
_ENOUGH = 50
"""clips before their verdicts say something of the captioner"""


def train_captioner(
    recipe: CaptionerRecipe, dataset: Path, run: Path, *, seed: int, resume: Resume = "auto"
) -> Path:
    """Train on the clips that came with texts; returns the captioner's folder.

    A recipe with `init` goes on from that captioner, whose digest becomes one of the run's inputs;
    its context grows if the texts need it.
    """
    ranks = initialise(recipe.train.timeout_minutes)
    clips = clips_of(dataset)
    kinds = recipe.task.kinds
    corpus = [text.text for clip in clips for text in texts_of(clip, kinds)]
    if not corpus:
        accepted = f"clips with captions ({', '.join(kinds)}): a captions.jsonl beside the videos"
        raise InputError("dataset", str(dataset), accepted)
    begun: dict[str, object] = {}
    if recipe.init is None:
        captioner = new_captioner(corpus, seed=seed, sizes=recipe.model)
    else:
        captioner = load_captioner(recipe.init)
        captioner = with_context(captioner, longest(captioner.tokenizer, corpus))
        begun = {"init": captioner_digest(recipe.init)}
    task = CaptionerTask(
        captioner,
        clips,
        stream_clip,
        recipe.task,
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    data = digest(*((clip.clip_id, text.text) for clip in clips for text in clip.texts))
    inputs = {"seed": seed, "data": data, **begun}
    return run_training("captioner", recipe, task, recipe.train, run, resume, inputs)


def recaption(
    config: RecaptionConfig,
    dataset: Path,
    captioner: str | Path,
    retry_failed: bool = False,
    *,
    again: bool = False,
    endpoint: Callable[..., EndpointConfig] | None = None,
) -> Path:
    """Have a captioner write about every usable clip; returns the folder of its table.

    captioner: a spec of recaption/writers.py. again: another take, of clips that it has written
    about. Raises InputError if most clips fail, which speaks of the captioner and not of them.
    """
    plan = captioner_of(config, captioner, endpoint)
    place = place_of(dataset, plan.source, fingerprint(plan, config), again=again)
    clips = clips_of(dataset)
    stage = recaption_stage(plan, config, take=place.take, spent=place.folder)
    with progress(stage.name, total=len(clips)) as report:
        counts: Counter[str] = Counter()

        def on_row(key: str, status: Status) -> None:
            counts[status] += 1
            report(1, **counts)
            failed, done = counts["failed"], counts.total()
            if done >= _ENOUGH and 2 * failed > done:
                accepted = f"one that works; {place.folder} has the reasons, --retry-failed goes on"
                raise InputError("captioner", f"{failed} of {done} clips failed", accepted)

        run_stage(stage, clips, place.folder, retry_failed=retry_failed, on_row=on_row)
    return place.folder


def captioner_of(
    config: RecaptionConfig,
    captioner: str | Path,
    endpoint: Callable[..., EndpointConfig] | None = None,
) -> WriterPlan:
    """The captioner of a spec, as a recipe sets it. Raises InputError as writer_of does."""
    return writer_of(
        str(captioner),
        config.kinds,
        config.decoding,
        device=config.device,
        batch_size=config.batch_size if config.device.startswith("cuda") else 1,
        endpoint=endpoint,
    )


def captions_of(dataset: Path) -> Mapping[str, ClipCaptions]:
    """All captions of each clip, of all captioners. Raises InputError if there are none."""
    return read_captions(dataset)


def usable_texts(captions: Iterable[ClipCaptions]) -> list[str]:
    """The distinct texts that training may draw; always the empty one, for guidance."""
    said = {c.text for row in captions for c in row.captions if c.whole and not c.flaw}
    return sorted(said | {""})


def embed(
    config: EmbedConfig, dataset: Path, text_encoder: str, retry_failed: bool = False
) -> TextStore:
    """Embed every usable caption into DATASET/text, each text once; returns what is there."""
    texts = usable_texts(captions_of(dataset).values())
    store = stored_texts(dataset, text_identity(text_encoder), config.dtype)
    known = sum(text in store for text in texts)
    with progress("embed", total=len(texts)) as report:
        report(known)
        return embed_texts(
            texts,
            text_encoder,
            dataset / TEXT_FOLDER,
            config,
            retry_failed=retry_failed,
            on_texts=report,
        )


def stored_texts(dataset: Path, identity: str, dtype: Dtype) -> TextStore:
    """What is embedded of a dataset's texts by the encoder of an identity."""
    return TextStore(store_folder(dataset / TEXT_FOLDER, identity, dtype), dtype)


def embedder(
    text_encoder: str, dataset: Path, texts: Sequence[str], *, say: bool = True
) -> FeatureReader:
    """Features of texts: read where `openreel embed` has stored them, else embedded as they are
    drawn, which is said in words with how many they are.

    Features in float32 are taken before those in float16, and one dtype alone is. The encoder is
    loaded when a text is missing: with all of them stored, training needs no memory for it.
    """
    identity = text_identity(text_encoder)
    stores = [stored_texts(dataset, identity, dtype) for dtype in get_args(Dtype)]
    store = next((found for found in stores if len(found)), stores[0])
    missing = sum(text not in store for text in texts)
    if say:
        with progress(f"embedded texts, {store.dtype}", total=len(texts)) as report:
            later = f"{missing} are embedded as they are drawn; `openreel embed` does it beforehand"
            report(len(texts) - missing, **({"note": later} if missing else {}))
    encoder = cache(partial(load_text_encoder, text_encoder))
    return FeatureReader(lambda texts: encoder().encode(texts), store)
