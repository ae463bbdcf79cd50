"""The shipped captioner at work: describes images and answers yes/no questions.

Knows transformers; trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from sightline_world.captions import DESCRIBE
from sightline_world.weights import path as shipped

_BATCH = 50


class Captioner:
    """A LLaVA on the CPU in float32: the shipped one, or any in a transformers folder.

    The shipped one hallucinates by training (see its model card); its yes/no answers do not.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        source = shipped("captioner") if folder is None else folder
        library: Any = transformers  # its Auto classes carry no types
        self.processor = library.AutoProcessor.from_pretrained(source)
        self.model = library.AutoModelForImageTextToText.from_pretrained(source).eval()
        self.processor.tokenizer.padding_side = "left"
        yes, no = (self.processor.tokenizer(t, add_special_tokens=False) for t in (" Yes", " No"))
        self._yes, self._no = yes.input_ids[0], no.input_ids[0]

    @torch.inference_mode()
    def caption(
        self,
        images: Sequence[Image.Image],
        *,
        sampled: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        max_new_tokens: int = 96,
    ) -> list[str]:
        """One description per image: greedy, or ``sampled`` at a temperature from its own seed.

        Raises ``ValueError`` when sampling with a temperature that is not positive.
        """
        if sampled and temperature <= 0:
            raise ValueError(f"temperature must be > 0 to sample, got {temperature}")
        options: dict[str, Any] = {"do_sample": False}
        if sampled:
            options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        texts: list[str] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for start in range(0, len(images), _BATCH):
                some = images[start : start + _BATCH]
                inputs = self._inputs(some, [DESCRIBE] * len(some))
                ids = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
                answers = ids[:, inputs["input_ids"].shape[1] :]
                texts += self.processor.batch_decode(answers, skip_special_tokens=True)
        return [text.strip() for text in texts]

    @torch.inference_mode()
    def yes_probabilities(
        self, images: Sequence[Image.Image], questions: Sequence[str]
    ) -> list[float]:
        """P(Yes) / (P(Yes) + P(No)) as the first answer token, one question per image."""
        values: list[float] = []
        for start in range(0, len(images), _BATCH):
            span = slice(start, start + _BATCH)
            logits = self.model(**self._inputs(images[span], questions[span])).logits[:, -1]
            values += torch.sigmoid(logits[:, self._yes] - logits[:, self._no]).tolist()
        return values

    def answers(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[bool]:
        """True where Yes is likelier than No, one question per image."""
        return [value > 0.5 for value in self.yes_probabilities(images, questions)]

    def answer(self, image: Image.Image, question: str) -> bool:
        """Whether the captioner says Yes to a question about one image."""
        return self.answers([image], [question])[0]

    def _inputs(
        self, images: Sequence[Image.Image], questions: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        prompts = [self._prompt(question) for question in questions]
        batch = self.processor(images=list(images), text=prompts, padding=True, return_tensors="pt")
        return dict(batch)

    def _prompt(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=True))
