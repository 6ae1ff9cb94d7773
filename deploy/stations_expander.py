"""The expander's station: from a data set's captions to a model that writes in their style."""

from pathlib import Path

from openreel.deploy.recipes import ExpanderRecipe
from openreel.deploy.stations import run_training
from openreel.deploy.stations_text import captions_of
from openreel.dit.checkpoint import Resume
from openreel.dit.distributed import initialise
from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.recaption.expander_model import Style, new_language_model, pretrained
from openreel.recaption.expander_train import ExpanderTask
from openreel.recaption.pairs import pairs_of


def train_expander(
    recipe: ExpanderRecipe, dataset: Path, run: Path, *, seed: int, resume: Resume = "auto"
) -> Path:
    """Train on the (short, dense) pairs of a data set's captions; returns the model's folder.

    Raises InputError where no clip has both.
    """
    ranks = initialise(recipe.train.timeout_minutes)
    pairs = pairs_of(captions_of(dataset).values())
    if not pairs.usable:
        got = f"{dataset} with {pairs.torn} pairs, whose dense captions say something else"
        accepted = "a dataset with a short and a dense caption of a clip, that keeps to the short"
        raise InputError("dataset", got, accepted)
    texts = [text for pair in pairs.usable for text in (pair.short, pair.dense)]
    language = (
        new_language_model(texts, recipe.model, seed=seed)
        if recipe.init is None
        else pretrained(recipe.init)
    )
    task = ExpanderTask(
        language,
        pairs.usable,
        recipe.task,
        style=Style.of((pair.dense for pair in pairs.usable), pairs.usable),
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    begun = "" if recipe.init is None else sha256(recipe.init / "model.safetensors")
    inputs = {"seed": seed, "data": digest(*texts), "init": begun, "torn": pairs.torn}
    return run_training("expander", recipe, task, recipe.train, run, resume, inputs)
