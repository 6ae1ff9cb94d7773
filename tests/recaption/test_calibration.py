"""Thresholds of agreement: what each refuses and lets pass, counted pair by pair."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openreel.deploy.world import Scene, draw_scene, render
from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError, MediaError
from openreel.recaption.calibration import Agreements, agreements
from openreel.recaption.checks import CaptionChecks, flaw
from openreel.recaption.coca_writer import CocaWriter
from openreel.recaption.decoding import Decoding
from openreel.recaption.frames import Frames
from openreel.recaption.weights import new_captioner, save_captioner
from openreel.recaption.windows import WindowConfig, read_windows
from openreel.recaption.writer import Written
from tests.benchmarks.captions import clip_of

SCENES: dict[str, Scene] = {
    f"{i}": draw_scene(0, i, num_objects=1, size=(32, 24)) for i in range(9)
}
CLIPS = [clip_of(name, scene) for name, scene in SCENES.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captioner")
    captioner = new_captioner((t.text for c in CLIPS for t in c.texts), seed=0)
    save_captioner(path, captioner.model.config, captioner.tokenizer, captioner.model.state_dict())
    return path


def read(clip: Clip, size: tuple[int, int] | None = None) -> Iterator[Frames]:
    if clip.clip_id == "8":
        raise MediaError("corrupt")
    yield from render(SCENES[clip.clip_id])


def test_thresholds_part_own_texts_from_others() -> None:
    clean = Agreements(own=(0.5, 0.6, 0.7), others=(0.1, 0.2, 0.3))
    assert 0.3 < clean.balanced() <= 0.5
    assert (clean.refused(0.4), clean.passed(0.4)) == (0, 0)
    mixed = Agreements(own=(0.5, 0.6, 0.1), others=(0.1, 0.2, 0.55))
    least = mixed.balanced()
    assert mixed.refused(least) == pytest.approx(mixed.passed(least)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.99])
def test_a_threshold_for_a_share_refuses_no_more_and_the_next_would(share: float) -> None:
    own = tuple(np.random.default_rng(0).uniform(-1, 1, 200).tolist())
    found = Agreements(own=own, others=(0.0,))
    least = found.refusing(share)
    assert found.refused(least) == sum(value < least for value in own) / 200 <= share
    assert found.refused(least + 0.05) > share


def test_every_clip_is_compared_with_its_own_texts_and_with_others(folder: Path) -> None:
    """One pair at a time, through the check that the threshold is for."""
    writer = CocaWriter(folder, Decoding())
    found = agreements(writer, CLIPS, read=read)
    kept = [clip for clip in CLIPS if clip.clip_id != "8"]
    texts = {(t.kind, t.text) for clip in kept for t in clip.texts}
    own, others = [], []
    for clip in kept:
        ((_, window),) = read_windows(clip, writer.sight, WindowConfig(), read=read)
        mine = {t.text for t in clip.texts}
        for kind, text in texts:
            cosine = float(writer.encoded([window])[0] @ writer.read([text], kind).T)
            (own if text in mine else others).append(cosine)
    assert len(own) == len(found.own) > 8
    np.testing.assert_allclose(sorted(found.own), sorted(own), atol=1e-5)
    np.testing.assert_allclose(sorted(found.others), sorted(others), atol=1e-5)
    least = found.refusing(0.3)
    refused = [
        flaw(Written(text="a red ball", agreement=a), CaptionChecks(min_agreement=least))
        for a in found.own
    ]
    assert sum(map(bool, refused)) / len(refused) == found.refused(least) > 0


def test_clips_that_say_nothing_are_a_mistake(folder: Path) -> None:
    writer = CocaWriter(folder, Decoding())
    for clips in ([], CLIPS[-1:]):
        with pytest.raises(InputError, match="dataset: got '0 texts of 0 clips"):
            agreements(writer, clips, read=read)
