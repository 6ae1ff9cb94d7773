"""What a run of curation would do, before it does it."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group

from openreel.deploy.recipes import described
from openreel.pipeline.clip import digest
from openreel.pipeline.curate import CurateConfig, curate_listed
from openreel.pipeline.errors import InputError
from openreel.pipeline.listing import list_sources
from openreel.pipeline.report import rendered, report


def planned(inputs: Sequence[str], config: CurateConfig) -> dict[str, Any]:
    """What would be curated, and how."""
    listing = list_sources(inputs)
    suffixes = Counter(Path(source.uri).suffix.lower() for source in listing.sources)
    return {
        "files": len(listing.sources),
        "bytes": sum(source.num_bytes for source in listing.sources),
        "suffixes": dict(suffixes.most_common()),
        "passed over": listing.others,
        **described(config),
    }


def previewed(inputs: Sequence[str], config: CurateConfig, number: int) -> Group:
    """The report on some of the files, curated in a folder that is removed again.

    Which ones depends on their content's key alone, so that a second preview with other thresholds
    is of the same files.
    """
    if number < 1:
        raise InputError("preview", number, "at least 1")
    listing = list_sources(inputs)
    some = sorted(listing.sources, key=lambda source: digest("preview", source.key))[:number]
    fewer = dataclasses.replace(listing, sources=tuple(sorted(some, key=lambda s: s.uri)))
    with tempfile.TemporaryDirectory(prefix="openreel-preview-") as folder:
        curate_listed(fewer, Path(folder), dataclasses.replace(config, max_bad=1.0))
        return rendered(report(Path(folder)))
