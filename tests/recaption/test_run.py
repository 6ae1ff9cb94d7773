"""The station keeps what came with a clip, adds what the model says, and says what is wrong."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, TimedText
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import write_video
from openreel.pipeline.stage import run_stage
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.checks import CaptionChecks, flaw
from openreel.recaption.frames import Frames
from openreel.recaption.run import RecaptionConfig, recaption, recaption_stage
from openreel.recaption.weights import (
    captioner_digest,
    load_captioner,
    new_captioner,
    save_captioner,
)

CORPUS = ["a red ball moves right . the camera is still"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captioner")
    captioner = new_captioner(CORPUS, seed=0)
    save_captioner(path, captioner.model.config, captioner.tokenizer, captioner.model.state_dict())
    return path


def clip(num_frames: int, kind: str = "video") -> Clip:
    return Clip(
        **{"clip_id": "c", "video_id": "v", "uri": "nowhere.mp4", "kind": kind},
        **{"start_frame": 0, "num_frames": num_frames, "start_pts": 0, "end_pts": 1},
        **{"time_base": "1/1", "fps": 8.0, "width": 20, "height": 12},
        texts=(TimedText(kind="original", text="my holiday"),),
    )


@pytest.mark.parametrize("num_frames", [1, 3, 30])
def test_a_clip_gets_one_caption_of_each_kind_and_keeps_its_own(
    folder: Path, num_frames: int
) -> None:
    captioner, config = load_captioner(folder), RecaptionConfig()
    frames = np.random.default_rng(0).integers(0, 255, (num_frames, 12, 20, 3)).astype(np.uint8)
    model = captioner_digest(folder)
    settings = {"captioner": captioner, "model": model, "config": config}
    row = recaption(clip(num_frames), **settings, read=lambda _: frames)
    again = recaption(clip(num_frames), **settings, read=lambda _: iter(frames))
    assert row == again, "a stream reads as an array does"
    assert [c.kind for c in row.captions] == ["original", "short", "dense"]
    assert [c.source for c in row.captions] == ["manifest", "videococa", "videococa"]
    assert row.captions[0].text == "my holiday"
    assert row.captions[1].model == model
    assert row.captions[1].logprob < 0
    assert ClipCaptions.from_row(row.to_row()) == row


def test_the_stage_survives_pickling_and_its_fingerprint_follows_model_and_config(
    folder: Path,
) -> None:
    stage = recaption_stage(folder, RecaptionConfig())
    function = pickle.loads(pickle.dumps(stage.build))()
    assert stage.holds_model
    with pytest.raises(MediaError):
        function(clip(3))
    other = recaption_stage(folder, RecaptionConfig(kinds=("short",)))
    assert stage.fingerprint != other.fingerprint
    assert stage.fingerprint["captioner"] == captioner_digest(folder)


def test_a_flawed_caption_is_on_record_but_not_used() -> None:
    good = Caption(kind="dense", text="good", source="manifest")
    bad = Caption(kind="dense", text="a a a", source="videococa", flaw="a word three times running")
    row = ClipCaptions(clip_id="c", captions=(good, bad))
    assert row.of_kind("dense") == good
    assert row.of_kind("short") is None
    assert ClipCaptions(clip_id="c", captions=(bad,)).of_kind("dense") is None


@pytest.mark.parametrize(
    ("text", "ended", "reason"),
    [
        ("", True, "empty"),
        (" . ", True, "empty"),
        ("a red ball", False, "cut off"),
        ("ball", True, "1 words, not 3 to 9"),
        ("a b c d e f g h i j", True, "10 words"),
        ("A red ball. A red ball.", True, "a sentence twice"),
        ("a red red red ball", True, "a word three times"),
        ("a b c d a b c d", True, "four words 2 times: a b c d"),
        ("A red ball moves right. It is big.", True, ""),
    ],
)
def test_flaws_are_named(text: str, ended: bool, reason: str) -> None:
    found = flaw(text, ended=ended, checks=CaptionChecks(max_words=9, max_repeats=1))
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="captioner: got"):
        recaption_stage(tmp_path, RecaptionConfig())
    with pytest.raises(InputError, match="kinds: got 'long'"):
        RecaptionConfig(kinds=("long",))
    with pytest.raises(InputError, match="min_words: got 0"):
        CaptionChecks(min_words=0)


def frames_of(_: Clip) -> Frames:
    return np.zeros((2, 8, 8, 3), np.uint8)


def test_a_clip_shorter_than_its_row_says_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="frames: got 2; accepted: 5"):
        recaption(
            clip(5),
            captioner=load_captioner(folder),
            model="m",
            config=RecaptionConfig(),
            read=frames_of,
        )


@pytest.mark.slow
def test_the_station_writes_a_row_for_every_clip_of_real_files(
    folder: Path, tmp_path: Path
) -> None:
    """On Ray, from MP4: the readable clip is captioned, the missing one is rejected."""
    path = tmp_path / "video.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3)).astype(np.uint8)
    write_video(path, frames, fps=8)
    readable = replace(
        clip(6), uri=str(path), width=48, height=32, end_pts=6, time_base="1/8", clip_id="there"
    )
    stage = recaption_stage(folder, RecaptionConfig())
    run_stage(stage, [readable, clip(3)], tmp_path / "captions")
    missing, there = table.read(tmp_path / "captions", ClipCaptions)
    assert (missing.clip_id, there.clip_id) == ("c", "there")
    assert missing.status != "ok"
    assert missing.reason
    assert there.status == "ok"
    assert [c.kind for c in there.captions] == ["original", "short", "dense"]
