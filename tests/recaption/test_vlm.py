"""Captions from models of transformers in a folder: two families, random and small."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5EncoderModel

from openreel.pipeline.errors import InputError
from openreel.recaption.vlm import VlmConfig, VlmWriter, vlm_identity
from openreel.recaption.writer import Window, Written
from tests.recaption.tiny_vlm import llava, qwen, qwen3

SHORT = VlmConfig(max_tokens=10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    return {build.__name__: build(root / build.__name__) for build in (qwen, qwen3, llava)}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["qwen"], tmp_path / "copy"))


def window(key: str, length: int, height: int, width: int, hint: str = "") -> Window:
    draw = np.random.default_rng(sum(map(ord, key)))
    frames = draw.integers(0, 256, (length, height, width, 3), dtype=np.uint8)
    times = tuple(8 + 0.25 * i for i in range(length))
    return Window(key=key, frames=frames, times=times, hint=hint)


WINDOWS = [
    window("a", 4, 24, 32),
    window("b", 1, 32, 32),
    window("c", 7, 40, 16, hint="the camera pans left"),
    window("d", 2, 24, 32),
]


@pytest.mark.parametrize(
    ("family", "frames_as"),
    [("qwen", "auto"), ("qwen", "images"), ("qwen3", "auto"), ("llava", "auto")],
)
def test_together_equals_alone(folders: dict[str, Path], family: str, frames_as: Any) -> None:
    config = replace(SHORT, frames_as=frames_as)
    alone = VlmWriter(folders[family], config).write(WINDOWS, "dense")
    writer = VlmWriter(folders[family], replace(config, batch_size=3))
    calls = _counted(writer)
    together = writer.write(WINDOWS, "dense")
    assert calls == [3, 1], "not answered together"
    assert len({written.tokens_in for written in alone}) == len(WINDOWS), "nothing was padded"
    assert len({written.logprob for written in alone}) == len(WINDOWS)
    assert len({written.text for written in alone}) > 1
    for one, many in zip(alone, together, strict=True):
        assert (one.text, one.outcome, one.reason) == (many.text, many.outcome, many.reason)
        assert (one.tokens_in, one.tokens_out) == (many.tokens_in, many.tokens_out)
        assert one.logprob == pytest.approx(many.logprob, abs=1e-4)
    assert VlmWriter(folders[family], config).write(WINDOWS[::-1], "dense")[::-1] == alone


def _counted(writer: VlmWriter) -> list[int]:
    """How many windows each call of the model answers, from now on."""
    calls: list[int] = []
    generate = writer._vlm.model.generate

    def counted(**asked: Any) -> Any:
        calls.append(len(asked["input_ids"]))
        return generate(**asked)

    writer._vlm.model.generate = counted
    return calls


def test_a_video_has_its_true_times_and_pictures_all_their_frames(
    folders: dict[str, Path],
) -> None:
    films = VlmWriter(folders["qwen"], SHORT)
    asked = films._asked(WINDOWS[:1], films.prompt("dense"))
    # Two frames make one step of this family's time; they are a quarter of a second apart.
    assert asked["second_per_grid_ts"].tolist() == [0.5]
    assert asked["video_grid_thw"].tolist() == [[2, 6, 8]]
    words = films._vlm.processor.tokenizer.decode(asked["input_ids"][0])
    assert "seen at 8.00, 8.25, 8.50, 8.75 seconds" in words
    assert "at the very end the camera" in words
    hinted = films._asked(WINDOWS[2:3], films.prompt("short"))
    words = films._vlm.processor.tokenizer.decode(hinted["input_ids"][0])
    assert "Measured, not seen" in words
    assert "the camera pans left." in words
    assert hinted["video_grid_thw"].tolist() == [[4, 10, 4]]
    still = films._asked(WINDOWS[1:2], films.prompt("short"))
    assert "video_grid_thw" not in still
    assert still["image_grid_thw"].tolist() == [[1, 8, 8]]

    timed = VlmWriter(folders["qwen3"], SHORT)
    asked = timed._asked(WINDOWS[2:3], timed.prompt("dense"))
    words = timed._vlm.processor.tokenizer.decode(asked["input_ids"][0])
    # Each pair of frames stands at the middle of its two times, rounded to a tenth.
    middles = [8.125, 8.625, 9.125, 9.5]
    assert re.findall(r"<(\d+\.\d) seconds>", words) == [f"{second:.1f}" for second in middles]

    pictures = VlmWriter(folders["llava"], SHORT)
    asked = pictures._asked(WINDOWS[2:3], pictures.prompt("dense"))
    assert len(asked["pixel_values"]) == 7
    image = pictures._vlm.model.config.image_token_index
    assert (asked["input_ids"] == image).sum() == 7 * 4


@pytest.mark.parametrize("family", ["qwen", "llava"])
def test_what_is_seen_is_what_is_captioned(folders: dict[str, Path], family: str) -> None:
    writer = VlmWriter(folders[family], SHORT)
    seen = WINDOWS[0]
    other = replace(seen, frames=255 - seen.frames)
    first, second, same = writer.write([seen, other, replace(seen)], "dense")
    assert first == same
    assert (first.text, first.logprob) != (second.text, second.logprob)
    assert writer.write([seen], "short") != [first]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_log_probability_is_the_models_own(folders: dict[str, Path], temperature: float) -> None:
    """Against transformers' own scores of what it generated."""
    writer = VlmWriter(folders["qwen"], replace(SHORT, temperature=temperature, top_p=0.9))
    kept: list[Any] = []
    generate = writer._vlm.model.generate

    def listened(**asked: Any) -> Any:
        kept.append(generate(**asked, return_dict_in_generate=True, output_logits=True))
        return kept[-1].sequences

    writer._vlm.model.generate = listened
    (written,) = writer.write(WINDOWS[:1], "dense")
    (out,) = kept
    scores = writer._vlm.model.compute_transition_scores(
        out.sequences, out.logits, normalize_logits=True
    )
    assert written.tokens_out == scores.shape[1] == 10
    assert written.logprob == pytest.approx(scores.mean().item(), abs=1e-5)
    assert written.logprob < -0.01


def test_an_answer_ends_with_its_end_token_or_is_truncated(copy: Path) -> None:
    writer = VlmWriter(copy, SHORT)
    (cut,) = writer.write(WINDOWS[:1], "dense")
    assert (cut.outcome, cut.tokens_out) == ("truncated", 10)
    assert cut.reason == "cut off at 10 tokens"
    asked = writer._asked(WINDOWS[:1], writer.prompt("dense"))
    ids = writer._vlm.model.generate(**asked)[0, asked["input_ids"].shape[1] :].tolist()
    # A token that this answer has becomes the end of all answers.
    end = next(i for i in range(3, 10) if ids[i] not in ids[:i])
    decoding = copy / "generation_config.json"
    decoding.write_text(
        json.dumps(json.loads(decoding.read_text()) | {"eos_token_id": [2, ids[end]]})
    )
    ended = VlmWriter(copy, replace(SHORT, batch_size=4)).write(WINDOWS, "dense")
    assert (ended[0].outcome, ended[0].reason, ended[0].tokens_out) == ("ok", "", end + 1)
    assert cut.text.startswith(ended[0].text)
    assert {written.outcome for written in ended} == {"ok", "truncated"}, "all of one length"
    assert _close(ended, VlmWriter(copy, SHORT).write(WINDOWS, "dense"))


def _close(some: list[Written], others: list[Written]) -> bool:
    return all(
        replace(a, logprob=None) == replace(b, logprob=None)
        and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        for a, b in zip(some, others, strict=True)
    )


def test_sampling_depends_on_window_kind_and_seed_alone(folders: dict[str, Path]) -> None:
    config = replace(SHORT, temperature=1.5, batch_size=3)
    writer = VlmWriter(folders["qwen"], config)
    before = torch.get_rng_state()
    first = writer.write(WINDOWS, "dense")
    assert torch.equal(before, torch.get_rng_state()), "the caller's randomness was used up"
    torch.rand(5)
    assert writer.write(WINDOWS[::-1], "dense")[::-1] == first
    assert writer.write([replace(WINDOWS[0], key="other")], "dense")[0].text != first[0].text
    other = VlmWriter(folders["qwen"], replace(config, seed=1)).write(WINDOWS, "dense")
    assert [w.text for w in other] != [w.text for w in first]


def test_a_fault_is_its_windows_own(folders: dict[str, Path]) -> None:
    config = replace(SHORT, batch_size=4)
    writer = VlmWriter(folders["qwen"], config)
    alone = VlmWriter(folders["qwen"], SHORT).write(WINDOWS, "dense")
    broken = replace(WINDOWS[1], frames=WINDOWS[1].frames[:0])
    wrong = replace(WINDOWS[1], frames=np.zeros((1, 32, 32, 7), np.uint8))
    for bad in (broken, wrong):
        first, fault, *others = writer.write([WINDOWS[0], bad, *WINDOWS[2:]], "dense")
        assert _close([first, *others], [alone[0], *alone[2:]])
        assert (fault.outcome, fault.text) == ("error", "")
        assert fault.reason
        assert "\n" not in fault.reason


def test_too_little_memory_for_a_batch_is_enough_for_each(folders: dict[str, Path]) -> None:
    writer = VlmWriter(folders["qwen"], replace(SHORT, batch_size=4))
    generate, refused = writer._vlm.model.generate, []

    def small(**asked: Any) -> Any:
        if len(asked["input_ids"]) > 1:
            refused.append(len(asked["input_ids"]))
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return generate(**asked)

    writer._vlm.model.generate = small
    assert writer.write(WINDOWS, "dense") == VlmWriter(folders["qwen"], SHORT).write(
        WINDOWS, "dense"
    )
    assert refused == [4]


def test_a_question_beyond_the_models_positions_is_not_asked(folders: dict[str, Path]) -> None:
    writer = VlmWriter(folders["qwen"], VlmConfig(max_tokens=4000))
    (written,) = writer.write(WINDOWS[:1], "dense")
    assert written.outcome == "error"
    assert "4096 positions" in written.reason
    assert writer.write([], "dense") == []


def test_identity_follows_files_and_decoding(copy: Path) -> None:
    assert sum(path.stat().st_size for path in copy.iterdir()) < 2e6
    first = VlmWriter(copy, SHORT).identity
    assert first == vlm_identity(copy, replace(SHORT, device="cuda", batch_size=9))
    seen = {first, vlm_identity(copy, replace(SHORT, seed=1))}
    seen.add(vlm_identity(copy, replace(SHORT, num_frames=4)))
    (copy / "README.md").write_text("not read by the model")
    assert vlm_identity(copy, SHORT) == first
    (copy / "chat_template.jinja").write_text("another {{ messages }}")
    seen.add(vlm_identity(copy, SHORT))
    weights = copy / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    seen.add(vlm_identity(copy, SHORT))
    assert len(seen) == 5


def test_mistakes_are_one_line(copy: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(folder: Path, words: str, config: VlmConfig = SHORT, early: bool = True) -> None:
        with pytest.raises(InputError) as told:
            # What can be known without the weights is known before any worker starts.
            vlm_identity(folder, config) if early else VlmWriter(folder, config)
        with pytest.raises(InputError):
            VlmWriter(folder, config)
        assert words in str(told.value)
        assert "\n" not in str(told.value)

    refused(tmp_path / "nowhere", "a folder with config.json")
    refused(folders["llava"], "frames_as", replace(SHORT, frames_as="video"), early=False)
    t5 = tmp_path / "t5"
    T5EncoderModel(
        T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=32)
    ).save_pretrained(t5)
    refused(t5, "image- or video-text-to-text")

    config = json.loads((copy / "config.json").read_text())
    (copy / "chat_template.jinja").rename(copy / "kept")
    refused(copy, "chat template")
    (copy / "kept").rename(copy / "chat_template.jinja")
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(copy, "can load", early=False)
    shutil.copy(folders["llava"] / "model.safetensors", copy / "model.safetensors")
    refused(copy, "weights of a qwen2_5_vl", early=False)
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    refused(copy, "safetensors")
    (copy / "model.safetensors").write_bytes(weights)
    VlmWriter(copy, SHORT)
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
    refused(copy, "can load")
    (copy / "config.json").write_text("{")
    refused(copy, "can load")
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "processor_config.json").unlink()
    refused(copy, "captioner")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("num_frames", 0), ("max_tokens", 0), ("temperature", -1), ("temperature", float("nan"))),
        *(("top_p", 0), ("frames_as", "gif"), ("precision", "int3"), ("batch_size", 0)),
    ],
)
def test_wrong_settings_are_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{field}: got"):
        VlmConfig(**{field: value})
