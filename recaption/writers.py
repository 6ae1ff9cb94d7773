"""From what a user names to a captioner: which one it is, and how each worker builds it.

    videococa:FOLDER or FOLDER      the captioner that is trained here
    vlm:FOLDER                      a model of transformers
    endpoint:URL                    an OpenAI-compatible server, and the name of a model of it

Nothing heavy is loaded here: the driver needs to know what a captioner is, not to run it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from openreel.pipeline.errors import InputError
from openreel.recaption.decoding import Decoding
from openreel.recaption.endpoint import EndpointConfig, check_endpoint
from openreel.recaption.writer import Writer

SPECS = "videococa:FOLDER, vlm:FOLDER, endpoint:URL"


@dataclass(frozen=True, kw_only=True)
class WriterPlan:
    """A captioner that each worker can build; it survives pickling."""

    source: str
    identity: str
    prompts: Mapping[str, str]
    """kind -> the instruction, empty where the model takes none"""
    build: Callable[[], Writer]
    max_workers: int | None = None
    """a server's limits hold for one worker, which asks it many things at once"""


def writer_of(
    spec: str,
    kinds: tuple[str, ...],
    decoding: Decoding,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    endpoint: Callable[..., EndpointConfig] | None = None,
) -> WriterPlan:
    """The captioner of a spec.

    decoding, device, batch_size: of those that run here. endpoint: how a server is to be asked,
    given its base_url. Raises InputError for what no captioner can be built from.
    """
    kind, _, place = spec.partition(":")
    if kind not in ("videococa", "vlm", "endpoint"):
        kind, place = "videococa", spec
    if not place:
        raise InputError("captioner", spec, SPECS)
    match kind:
        case "videococa":
            return _coca(Path(place), kinds, decoding, device)
        case "vlm":
            return _vlm(Path(place), kinds, decoding, device, batch_size)
        case _:
            return _endpoint(place, kinds, decoding, endpoint)


def _coca(folder: Path, kinds: tuple[str, ...], decoding: Decoding, device: str) -> WriterPlan:
    from openreel.recaption.coca_writer import CocaWriter, coca_identity
    from openreel.recaption.weights import load_captioner

    load_captioner(folder)  # a mistake is told here, not by every worker
    return WriterPlan(
        source=CocaWriter.source,
        identity=coca_identity(folder, decoding),
        prompts=dict.fromkeys(kinds, ""),
        build=partial(CocaWriter, folder, decoding, device),
    )


def _vlm(
    folder: Path, kinds: tuple[str, ...], decoding: Decoding, device: str, batch_size: int
) -> WriterPlan:
    from openreel.recaption.vlm import VlmConfig, VlmWriter, vlm_identity

    config = VlmConfig(
        temperature=decoding.temperature if decoding.top_p else 0.0,
        top_p=decoding.top_p or 1.0,
        seed=decoding.seed,
        batch_size=batch_size,
        device=device,
    )
    return WriterPlan(
        source=VlmWriter.source,
        identity=vlm_identity(folder, config),
        prompts={kind: config.instructions.of(kind) for kind in kinds},
        build=partial(VlmWriter, folder, config),
    )


def _endpoint(
    url: str,
    kinds: tuple[str, ...],
    decoding: Decoding,
    endpoint: Callable[..., EndpointConfig] | None,
) -> WriterPlan:
    from openreel.recaption.endpoint_writer import (
        EndpointWriter,
        EndpointWriterConfig,
        endpoint_identity,
    )

    if endpoint is None:
        raise InputError("captioner", f"endpoint:{url}", "an endpoint with --model NAME")
    asked, config = endpoint(base_url=url), EndpointWriterConfig(seed=decoding.seed)
    check_endpoint(asked)  # a missing package or key is told here
    return WriterPlan(
        source=EndpointWriter.source,
        identity=endpoint_identity(asked, config),
        prompts={kind: config.instructions.of(kind) for kind in kinds},
        build=partial(EndpointWriter, asked, config),
        max_workers=1,
    )
