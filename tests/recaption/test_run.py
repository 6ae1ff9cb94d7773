"""The station keeps what came with a clip, adds what captioners say, and says what is wrong."""

import json
import pickle
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline import table
from openreel.pipeline.batches import in_batches
from openreel.pipeline.clip import Clip, TimedText
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import write_video
from openreel.pipeline.stage import run_stage
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.coca_writer import CocaWriter
from openreel.recaption.decoding import Decoding
from openreel.recaption.endpoint import EndpointConfig
from openreel.recaption.run import (
    RecaptionConfig,
    fingerprint,
    recaption_stage,
    recaptioning,
    spent_in,
)
from openreel.recaption.tables import caption_tables, place_of, read_captions
from openreel.recaption.weights import new_captioner, save_captioner
from openreel.recaption.windows import WindowConfig, shown, windows_of
from openreel.recaption.writer import Frames, Sight, Window, Written
from openreel.recaption.writers import WriterPlan, writer_of

CORPUS = ["a red ball moves right . the camera is still"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioner_in(tmp_path_factory.mktemp("captioner"), seed=0)


def captioner_in(path: Path, seed: int) -> Path:
    captioner = new_captioner(CORPUS, seed=seed)
    save_captioner(path, captioner.model.config, captioner.tokenizer, captioner.model.state_dict())
    return path


def planned(folder: Path, config: RecaptionConfig) -> WriterPlan:
    return writer_of(str(folder), config.kinds, config.decoding)


def clip(num_frames: int, name: str = "c", width: int = 20, height: int = 12) -> Clip:
    return Clip(
        **{"clip_id": name, "video_id": "v", "uri": "nowhere.mp4", "kind": "video"},
        **{"start_frame": 0, "num_frames": num_frames, "start_pts": 0, "end_pts": num_frames},
        **{"time_base": "1/8", "fps": 8.0, "width": width, "height": height},
        texts=(TimedText(kind="original", text="my holiday"),),
    )


def pixels(one: Clip, *, size: tuple[int, int] | None = None) -> Frames:
    assert size is None, "none of these is large"
    shape = (one.num_frames, one.height, one.width, 3)
    return np.random.default_rng(one.num_frames).integers(0, 255, shape).astype(np.uint8)


@dataclass
class Parrot:
    """A writer that says what it is told, by the key of a window."""

    answers: dict[str, Written]
    source = "parrot"
    identity = "parrot-1"
    sight = Sight(num_frames=2, max_area=240)

    def prompt(self, kind: str) -> str:
        return f"say something {kind}"

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        return [self.answers.get(w.key, Written(text=f"a {kind} text")) for w in windows]


def rows_of(
    writer: object, clips: Sequence[Clip], config: RecaptionConfig, **more: object
) -> dict[str, ClipCaptions]:
    work = recaptioning(writer, config, read=pixels, **more)
    found = [one for some in in_batches(work, clips, config.batch_size) for _, one in some]
    return {row.clip_id: row for row in found}


@pytest.mark.parametrize("num_frames", [1, 3, 30])
def test_a_clip_gets_one_caption_of_each_kind_and_keeps_its_own(
    folder: Path, num_frames: int
) -> None:
    writer = CocaWriter(folder, Decoding())
    (row,) = rows_of(writer, [clip(num_frames)], RecaptionConfig()).values()
    assert [c.kind for c in row.captions] == ["original", "short", "dense"]
    assert [c.source for c in row.captions] == ["manifest", "videococa", "videococa"]
    assert row.captions[0].text == "my holiday"
    assert all(c.model == writer.identity and c.whole for c in row.captions[1:])
    assert all(c.logprob < 0 and -1 <= c.agreement <= 1 for c in row.captions[1:])
    assert ClipCaptions.from_row(row.to_row()) == row


def test_a_clip_is_captioned_alike_alone_and_among_others_of_any_size(folder: Path) -> None:
    writer = CocaWriter(folder, Decoding(top_p=0.9, seed=3))
    sizes = [(1, 20, 12), (5, 12, 40), (9, 20, 12), (30, 16, 16), (2, 64, 8), (7, 20, 12)]
    clips = [clip(n, f"c{i}", w, h) for i, (n, w, h) in enumerate(sizes)]
    together = rows_of(writer, clips, RecaptionConfig(batch_size=4))
    for one in clips:
        (alone,) = rows_of(writer, [one], RecaptionConfig()).values()
        for mine, theirs in zip(alone.captions, together[one.clip_id].captions, strict=True):
            numbers = {"logprob": None, "agreement": None}
            assert replace(mine, **numbers) == replace(theirs, **numbers)
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
            assert mine.agreement == pytest.approx(theirs.agreement, abs=1e-5)
    assert len({row.captions[-1].text for row in together.values()}) > 1


def test_the_agreement_is_that_of_the_clip_with_its_own_caption(folder: Path) -> None:
    writer = CocaWriter(folder, Decoding())
    clips = [clip(n, f"c{n}") for n in (3, 6, 9)]
    spans = [windows_of(one, WindowConfig()) for one in clips]
    windows = [
        shown(one, pixels(one), span, writer.sight)[0]
        for one, span in zip(clips, spans, strict=True)
    ]
    said = writer.write(windows, "dense")
    cosines = writer.encoded(windows)[0] @ writer.read([one.text for one in said], "dense").T
    assert [one.agreement for one in said] == pytest.approx(cosines.diagonal().tolist(), abs=1e-6)


def test_a_clip_that_a_writer_cannot_do_leaves_the_others_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CocaWriter(folder, Decoding())
    encode, calls = writer.model.encode_video, []

    def failing(video: object, sizes: object) -> object:
        calls.append(sizes.tolist())
        if any(size[0] == 3 for size in calls[-1]):
            raise RuntimeError("out of memory")
        return encode(video, sizes)

    monkeypatch.setattr(writer.model, "encode_video", failing)
    rows = rows_of(writer, [clip(2, "a"), clip(3, "b"), clip(4, "c")], RecaptionConfig())
    assert max(map(len, calls)) == 3, "they must have shared a batch"
    assert {key: row.status for key, row in rows.items()} == {"a": "ok", "b": "failed", "c": "ok"}
    assert rows["b"].reason == "RuntimeError: out of memory"
    assert rows["b"].captions[0].text == "my holiday", "what came with it is kept"
    assert rows["b"].of_kind("dense") is None
    assert rows["a"].of_kind("dense") is not None or rows["a"].captions[2].flaw


def test_a_long_clip_keeps_its_windows_captions_and_one_for_all() -> None:
    config = RecaptionConfig(kinds=("dense",))
    answers = {
        "long 0": Written(text="A red ball moves right. It rains.", logprob=-1.0),
        "long 64": Written(text="A red ball moves left. It rains.", logprob=-3.0),
        "long 128": Written(text="ball ball ball", logprob=-9.0),
    }
    row = rows_of(Parrot(answers), [clip(192, "long"), clip(8, "short")], config)["long"]
    first, second, third, whole = row.captions[1:]
    assert [c.whole for c in (first, second, third)] == [False] * 3
    assert [(c.start_s, c.end_s) for c in (first, second)] == [(0.0, 8.0), (8.0, 16.0)]
    assert third.flaw == "repetition: a word three times running"
    assert whole.text == "A red ball moves first right (0 to 8 s), then left (8 to 16 s). It rains."
    assert (whole.whole, whole.start_s, whole.end_s, whole.logprob) == (True, 0.0, None, -2.0)
    assert row.of_kind("dense") == whole
    assert whole.prompt == first.prompt != ""


def test_contradictions_and_windows_without_a_caption_are_flaws_of_the_whole() -> None:
    config = RecaptionConfig(kinds=("dense",))
    still, pans = Written(text="The camera is still."), Written(text="The camera pans left.")
    nothing = Written(outcome="blocked", reason="policy")
    long = clip(128, "x")
    row = rows_of(Parrot({"x 0": still, "x 64": pans}), [long], config)["x"]
    assert row.captions[-1].flaw.startswith("contradiction: the camera still (0 to 8 s)")
    assert (row.status, row.of_kind("dense")) == ("ok", None)
    row = rows_of(Parrot({"x 0": nothing, "x 64": nothing}), [long], config)["x"]
    assert row.captions[-1].flaw.startswith("error: no window")
    assert row.captions[1].flaw == "refusal: policy"


def test_another_take_is_drawn_anew_and_greedy_ones_are_equal(folder: Path) -> None:
    drawn, greedy = (CocaWriter(folder, Decoding(top_p=p, seed=1)) for p in (1.0, 0.0))
    clips = [clip(n, f"c{n}") for n in range(2, 8)]
    texts = [
        [
            [
                c.text
                for row in rows_of(writer, clips, RecaptionConfig(), take=n).values()
                for c in row.captions
            ]
            for n in (1, 2)
        ]
        for writer in (drawn, greedy)
    ]
    assert texts[0][0] != texts[0][1]
    assert texts[1][0] == texts[1][1]


def test_the_stage_survives_pickling_and_its_fingerprint_follows_what_captions_depend_on(
    folder: Path, tmp_path: Path
) -> None:
    config = RecaptionConfig()
    stage = recaption_stage(planned(folder, config), config)
    work = pickle.loads(pickle.dumps(stage.build))()
    assert stage.holds_model
    with pytest.raises(MediaError):
        work.read(clip(3))
    (tmp_path / "other").mkdir()
    other = captioner_in(tmp_path / "other", seed=1)
    changed = [
        (folder, RecaptionConfig(kinds=("short",))),
        (folder, RecaptionConfig(decoding=Decoding(seed=1))),
        (folder, RecaptionConfig(windows=WindowConfig(seconds=4))),
        (other, RecaptionConfig()),
    ]
    own = [fingerprint(planned(place, config), config) for place, config in changed]
    own.append(fingerprint(planned(folder, config), config))
    assert len({json.dumps(one, sort_keys=True) for one in own}) == len(own)
    elsewhere = RecaptionConfig(batch_size=3, num_cpus=2, device="cuda")
    assert fingerprint(planned(folder, config), elsewhere) == own[-1]


# ---- tables -----------------------------------------------------------------------------------


def kept(folder: Path, source: str, said: dict[str, str], status: str = "ok") -> None:
    table.create(folder, stage="recaption", key="clip_id", fingerprint={"captioner": source})
    rows = [
        ClipCaptions(
            clip_id=key,
            status=status,
            captions=(
                Caption(kind="original", text="mine", source="manifest"),
                Caption(kind="dense", text=text, source=source),
            ),
        )
        for key, text in said.items()
    ]
    table.append(folder, rows)


def test_each_captioner_has_its_table_goes_on_in_it_and_is_asked_again_beside_it(
    tmp_path: Path,
) -> None:
    first = place_of(tmp_path, "vlm", {"a": 1})
    assert first.folder.name.startswith("0001-vlm-")
    kept(first.folder, "vlm", {"x": "one"})
    assert place_of(tmp_path, "vlm", {"a": 1}) == first
    second = place_of(tmp_path, "vlm", {"a": 2})
    assert second.folder.name.startswith("0002-vlm-")
    assert second.folder.name[5:] != first.folder.name[5:]
    kept(second.folder, "vlm", {"x": "two"})
    again = place_of(tmp_path, "vlm", {"a": 1}, again=True)
    assert (again.folder.name[:5], again.folder.name[5:]) == ("0003-", first.folder.name[5:])
    assert (first.take, again.take) == (1, 2)
    kept(again.folder, "vlm", {"x": "three", "y": "four"})
    assert place_of(tmp_path, "vlm", {"a": 1}) == again, "the newest take goes on"
    assert caption_tables(tmp_path) == [first.folder, second.folder, again.folder]
    captions = read_captions(tmp_path)
    assert [c.text for c in captions["x"].captions] == ["mine", "one", "two", "three"]
    assert captions["x"].of_kind("dense").text == "three"
    assert captions["x"].of_kind("original").text == "mine"


def test_of_a_clip_that_two_workers_captioned_all_readers_see_the_same_captions(
    tmp_path: Path,
) -> None:
    """One of them was taken for lost; its figures are rounded otherwise, and a server's words too
    may be others."""
    one = Caption(kind="dense", text="a ball", source="vlm", logprob=-0.5, agreement=0.25)
    apart = replace(one, logprob=-0.50000003), replace(one, text="a red ball", logprob=-0.4)
    for number, other in enumerate(apart):
        rows = [ClipCaptions(clip_id="x", captions=(c,)) for c in (one, other)]
        found = []
        for order in (rows, rows[::-1]):
            folder = place_of(tmp_path / f"{number}-{len(found)}", "vlm", {}).folder
            table.create(folder, stage="recaption", key="clip_id", fingerprint={})
            for row in order:
                table.append(folder, [row])
            assert len(table.parts(folder)) == 2
            before = read_captions(folder.parents[1])["x"].captions
            table.compact(folder)
            assert read_captions(folder.parents[1])["x"].captions == before
            found.append(before)
        assert found[0] == found[1] in [(one,), (other,)]


def test_a_table_that_was_never_begun_and_rows_without_captions_are_passed_over(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="dataset with captions; openreel recaption"):
        read_captions(tmp_path)
    place = place_of(tmp_path, "vlm", {"a": 1})
    place.folder.mkdir(parents=True)
    assert caption_tables(tmp_path) == []
    assert place_of(tmp_path, "vlm", {"a": 1}) == place, "who died at once goes on"
    kept(place.folder, "vlm", {"x": "one"}, status="failed")
    table.append(place.folder, [ClipCaptions(clip_id="y", status="rejected", reason="corrupt")])
    captions = read_captions(tmp_path)
    assert set(captions) == {"x"}
    assert captions["x"].of_kind("original").text == "mine"


def test_what_a_server_cost_is_summed_over_workers(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Spent:
        requests: int
        cost: float

    for requests in (2, 3):
        parrot = Parrot({})
        parrot.spent = Spent(requests, 0.5)
        rows_of(parrot, [clip(2)], RecaptionConfig(), spent=tmp_path)
    assert spent_in(tmp_path) == {"requests": 5, "cost": 1.0}
    assert spent_in(tmp_path / "none") == {}


# ---- mistakes, and the whole road -------------------------------------------------------------


def test_mistakes_are_named(tmp_path: Path) -> None:
    for spec in (str(tmp_path), f"videococa:{tmp_path}"):
        with pytest.raises(InputError, match="captioner: got"):
            writer_of(spec, ("dense",), Decoding())
    with pytest.raises(InputError):
        writer_of(f"vlm:{tmp_path}", ("dense",), Decoding())
    for spec in ("vlm:", "endpoint:", ""):
        with pytest.raises(InputError, match="captioner: got"):
            writer_of(spec, ("dense",), Decoding())
    with pytest.raises(InputError, match="kinds: got 'long'"):
        RecaptionConfig(kinds=("long",))
    with pytest.raises(InputError, match="kinds: got"):
        RecaptionConfig(kinds=("short", "short"))
    with pytest.raises(InputError, match="batch_size: got 0"):
        RecaptionConfig(batch_size=0)


def test_an_endpoint_that_is_down_makes_failed_rows_with_a_reason_and_keeps_the_originals() -> None:
    pytest.importorskip("openai")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens there
        asked = partial(EndpointConfig, model="m", max_tries=1, timeout_s=5, deadline_s=5)
        spec = f"endpoint:http://127.0.0.1:{held.getsockname()[1]}/v1"
        plan = writer_of(spec, ("short", "dense"), Decoding(), endpoint=asked)
        plan = pickle.loads(pickle.dumps(plan))
        writer = plan.build()
        assert (plan.source, plan.identity, plan.max_workers) == ("endpoint", writer.identity, 1)
        assert all(writer.prompt(kind) == text for kind, text in plan.prompts.items())
        rows = rows_of(writer, [clip(2, "a"), clip(3, "b")], RecaptionConfig())
    assert {row.status for row in rows.values()} == {"failed"}
    assert all(row.reason for row in rows.values())
    assert [c.flaw.partition(":")[0] for c in rows["a"].captions] == ["", "error", "error"]
    with pytest.raises(InputError, match="model: got ''"):
        writer_of(spec, ("dense",), Decoding(), endpoint=partial(EndpointConfig, model=""))
    with pytest.raises(InputError, match="captioner: got 'endpoint:"):
        writer_of(spec, ("dense",), Decoding())


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_truncated_file_in_a_batch_leaves_the_others_unaffected(
    folder: Path, tmp_path: Path
) -> None:
    """On Ray, from MP4s of which one has lost its end after it was curated."""
    clips = []
    for i in range(6):
        path = tmp_path / f"{i}.mp4"
        one = replace(clip(9, f"c{i}", 48, 32), uri=str(path), video_id=f"v{i}")
        frames = np.random.default_rng(i).integers(0, 255, (9, 32, 48, 3)).astype(np.uint8)
        write_video(path, frames, fps=8)
        clips.append(one)
    broken = tmp_path / "3.mp4"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    config = RecaptionConfig()
    stage = recaption_stage(planned(folder, config), replace(config, batch_size=8))
    run_stage(stage, clips, tmp_path / "captions")
    rows = {row.clip_id: row for row in table.read(tmp_path / "captions", ClipCaptions)}
    assert sorted(rows) == [one.clip_id for one in clips]
    assert {key for key, row in rows.items() if row.status != "ok"} == {"c3"}
    assert rows["c3"].status == "rejected"
    assert rows["c3"].reason
    for key in rows.keys() - {"c3"}:
        assert [c.kind for c in rows[key].captions] == ["original", "short", "dense"]
    with pytest.raises(InputError, match="c0 twice"):
        run_stage(stage, [*clips, clips[0]], tmp_path / "captions")
    assert asdict(rows["c0"]) == asdict(table.read(tmp_path / "captions", ClipCaptions)[0])
