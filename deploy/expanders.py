"""From what a person asks for to an expander: which backend, on whose captions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from openreel.pipeline.errors import InputError

if TYPE_CHECKING:  # a typo must not wait for torch to load
    from openreel.recaption.expansion import Backend, ExpandConfig, Expansion, GuardedExpander
    from openreel.recaption.language import Script

OWN = "expander"
"""an expander's folder within a bundle"""


@dataclass(frozen=True, kw_only=True)
class ExpandOptions:
    """How prompts are made to look like the training captions."""

    expand: Literal["auto", "off", "offline", "own", "local", "endpoint"] = "auto"
    """off: the prompt byte for byte; offline: a grammar, no weights; own: a model that `openreel
    train expander` made; local: a chat model's folder; endpoint: a server that speaks OpenAI's
    protocol; auto: own if the bundle has one, and offline where there is none or it fails"""
    expand_model: str = ""
    """own, local: a folder; endpoint: the name that its server knows the model by"""
    expand_url: str = ""
    """endpoint: such as http://localhost:8000/v1"""
    expand_key: str = ""
    """endpoint: the environment variable that holds the key"""
    expand_language: Literal["keep", "en"] = "keep"
    """of prompts that are not English: keep them, or have local and endpoint translate them"""
    expand_words: tuple[int, int] | None = None
    """shortest and longest expansion; None: as the captions are, 15 to 80 where there are none"""
    expand_timeout: float = 30.0
    """seconds, after which the prompt stands as it is"""
    expand_cache: Path | None = None
    """a folder that remembers expansions"""


def expanded(options: ExpandOptions, prompt: str, *, seed: int, folder: Path | None) -> "Expansion":
    """The expansion of one prompt; its model is gone again when this returns.

    folder: of a bundle or an expander, whose captions set the style.
    """
    from openreel.recaption.expansion import untouched

    if options.expand == "off":
        return untouched(prompt, seed)
    first = expander_of(options, folder).expand(prompt, seed=seed)
    if options.expand != "auto" or first.status != "fell back" or first.backend == "offline":
        return first
    # The own model is small and stumbles over what it has not learnt; the grammar copies.
    second = expander_of(replace(options, expand="offline"), folder).expand(prompt, seed=seed)
    return replace(second, reason=f"own model: {first.reason}. {second.reason}".strip())


def expander_of(options: ExpandOptions, folder: Path | None) -> "GuardedExpander":
    """The expander that options ask for, except off. Raises InputError for what cannot be built."""
    from openreel.recaption.expander_model import Style
    from openreel.recaption.expansion import GuardedExpander
    from openreel.recaption.expansion_cache import ExpansionCache
    from openreel.recaption.language import Script

    style = Style() if folder is None else Style.read(folder)
    return GuardedExpander(
        _backend(options, folder, style.dense, Script(pairs=style.pairs)),
        _config(options),
        corpus=style.dense,
        cache=ExpansionCache(options.expand_cache),
    )


def _config(options: ExpandOptions) -> "ExpandConfig":
    from openreel.recaption.expansion import ExpandConfig
    from openreel.recaption.guards import WordRange

    low, high = options.expand_words or (0, 0)
    return ExpandConfig(
        words=None if options.expand_words is None else WordRange(low=low, high=high),
        language=options.expand_language,
        timeout_s=options.expand_timeout,
    )


def _backend(
    options: ExpandOptions, folder: Path | None, corpus: tuple[str, ...], script: "Script"
) -> "Backend":
    match options.expand:
        case "local":
            from openreel.recaption.language import LocalConfig, LocalModel

            if not options.expand_model:
                raise InputError("expand_model", options.expand_model, "a chat model's folder")
            return LocalModel(Path(options.expand_model), script, LocalConfig(device=_device()))
        case "endpoint":
            from openreel.recaption.endpoint import EndpointConfig
            from openreel.recaption.endpoint_expander import EndpointModel

            config = EndpointConfig(
                base_url=options.expand_url,
                model=options.expand_model,
                key_variable=options.expand_key,
                max_tries=3,
            )
            return EndpointModel(config, script, timeout_s=options.expand_timeout)
        case _:
            own = _own_folder(options, folder)
            if own is None:
                from openreel.recaption.expand import Grammar

                return Grammar(corpus)
            from openreel.recaption.expander_model import own_model

            return own_model(own)


def _own_folder(options: ExpandOptions, folder: Path | None) -> Path | None:
    """Where the own model lies, if it is wanted. Raises InputError if it is, and is not there."""
    if options.expand == "offline":
        return None
    if options.expand_model:
        return Path(options.expand_model)
    places = [] if folder is None else [folder / OWN, folder]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    if found is None and options.expand == "own":
        accepted = "a bundle with an expander, or --expand-model FOLDER"
        raise InputError("expand", "own", accepted)
    return found


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
