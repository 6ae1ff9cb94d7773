"""Prompt expansion by a causal language model from a local folder. Nothing is downloaded."""

import re
from pathlib import Path
from typing import Any

import torch

from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.recaption.expand import Expansion, guarded

INSTRUCTION = (
    "You rewrite a short video prompt as one dense caption. Keep everything that it says: "
    "subjects, counts, colours, directions, camera, names, and quoted text letter by letter. "
    "Describe size, background and camera only where it says nothing. Add no people and no "
    "camera movement. Use the prompt's language. Answer with the caption alone."
)
MEND = "That caption is wrong: {violations}. Write it again without this mistake."


class LanguageExpander:
    """Greedy decoding under a chat template; one attempt to mend, then the original stands."""

    def __init__(
        self,
        folder: Path,
        *,
        examples: tuple[tuple[str, str], ...] = (),
        max_new_tokens: int = 256,
        device: str = "cpu",
    ) -> None:
        """examples: pairs of a short and a dense caption of one clip, to show the style."""
        if not (folder / "config.json").is_file():
            raise InputError("expander", str(folder), "a folder with config.json")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not self.tokenizer.chat_template:
            raise InputError("expander", str(folder), "a model whose tokenizer has a chat template")
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        self.model = model.to(device).eval()
        self.examples, self.max_new_tokens, self.device = examples, max_new_tokens, device
        names = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
        weights = digest(*(sha256(path) for path in names))
        self.backend = f"language:{digest(weights, INSTRUCTION, examples, max_new_tokens)}"

    def expand(self, prompt: str, *, seed: int = 0) -> Expansion:
        chat = [{"role": "system", "content": INSTRUCTION}]
        for short, dense in self.examples:
            chat += [{"role": "user", "content": short}, {"role": "assistant", "content": dense}]
        chat.append({"role": "user", "content": prompt})
        text = self._answer(chat)
        expansion = guarded(prompt, text, backend=self.backend, seed=seed)
        if expansion.status != "fell back":
            return expansion
        mend = MEND.format(violations="; ".join(expansion.violations))
        chat += [{"role": "assistant", "content": text}, {"role": "user", "content": mend}]
        return guarded(prompt, self._answer(chat), backend=self.backend, seed=seed)

    def _answer(self, chat: list[dict[str, str]]) -> str:
        inputs = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.device)
        # generate() may touch the global generator, and the video's noise must not depend on it.
        with torch.random.fork_rng(), torch.inference_mode():
            ids = self.model.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens
            )
        answer = self.tokenizer.decode(
            ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return re.sub(r"<think>.*?(</think>|\Z)", "", answer, flags=re.DOTALL).strip()
