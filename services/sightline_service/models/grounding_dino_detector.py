"""Grounding DINO and MM-Grounding DINO as detectors: phrases share a prompt. Knows torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch

from sightline_proto import ModelInfo
from sightline_service.models.boxes import DETECTION_FLOOR, clamped_corners
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.pretrained import image_inputs
from sightline_service.models.protocols import Prepared, RawDetection, TextRefusedError
from sightline_service.models.tensors import n_weights, right_padded
from sightline_service.models.tokenizing import Tokenizer

_DELIMITERS = str.maketrans(".?", "  ")
_SEPARATOR = ". "
_FRAME_TOKENS = 2
"""[CLS] and [SEP]."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase as the prompt holds it: its place among those asked for, and its tokens."""

    index: int
    asked: str
    text: str
    n_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Prompt:
    """One image with one prompt; `spans` are the token positions of each of its phrases."""

    pixels: torch.Tensor
    mask: torch.Tensor | None
    ids: tuple[int, ...]
    phrases: tuple[_Phrase, ...]
    spans: tuple[tuple[int, ...], ...]
    text_threshold: float


class GroundingDinoDetector:
    """Scores every box against every token of "a cat. a dog."; a box belongs to its best phrase.

    A phrase scores as its best token, as in the original's box score (Liu et al. 2023), and only
    tokens of phrases count, so that a box is never given to a full stop.

    Args:
        model: the model, on its device.
        image_processor: its own image preprocessing.
        tokenizer: its own tokeniser, limited to the model's longest prompt (256 tokens).
        placement: device and arithmetic.
        info: its identity in replies.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a class per architecture
        image_processor: Any,  # noqa: ANN401 - a class per architecture
        tokenizer: Tokenizer,
        *,
        placement: Placement,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.n_weights = n_weights(model)
        self._model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer
        self._placement = placement

    def prepare(
        self, image: PIL.Image.Image, phrases: tuple[str, ...], *, text_threshold: float
    ) -> Sequence[Prepared]:
        """Returns one input for each prompt that the phrases need.

        Raises:
            TextRefusedError: a phrase has no word in it.
        """
        inputs = image_inputs(self._image_processor, image)
        pixels, mask = inputs["pixel_values"][0], inputs.get("pixel_mask")
        height, width = pixels.shape[-2:]
        described = [self._phrase(index, phrase) for index, phrase in enumerate(phrases)]
        return [
            Prepared(
                data=self._prompt(chunk, pixels, None if mask is None else mask[0], text_threshold),
                cost=height * width,
                group=(height, width),
                truncated=any(phrase.truncated for phrase in chunk),
            )
            for chunk in self._chunks(described)
        ]

    def _phrase(self, index: int, asked: str) -> _Phrase:
        """Lower-cases a phrase, takes out what would split it, and cuts it to one prompt."""
        text = " ".join(asked.lower().translate(_DELIMITERS).split())
        ids, offsets = self._tokenizer.spans(text)
        if not ids:
            raise TextRefusedError(f"phrase {asked!r} has no word in it: name an object")
        room = self._tokenizer.max_tokens - _FRAME_TOKENS - 1
        if len(ids) <= room:
            return _Phrase(index, asked, text, len(ids), truncated=False)
        return _Phrase(index, asked, text[: offsets[room - 1][1]], room, truncated=True)

    def _chunks(self, phrases: Sequence[_Phrase]) -> Iterator[tuple[_Phrase, ...]]:
        """Fills each prompt as far as its tokens allow; a phrase also needs its full stop."""
        chunk: list[_Phrase] = []
        used = _FRAME_TOKENS
        for phrase in phrases:
            if chunk and used + phrase.n_tokens + 1 > self._tokenizer.max_tokens:
                yield tuple(chunk)
                chunk, used = [], _FRAME_TOKENS
            chunk.append(phrase)
            used += phrase.n_tokens + 1
        yield tuple(chunk)

    def _prompt(
        self,
        phrases: tuple[_Phrase, ...],
        pixels: torch.Tensor,
        mask: torch.Tensor | None,
        text_threshold: float,
    ) -> _Prompt:
        prompt = _SEPARATOR.join(phrase.text for phrase in phrases) + "."
        ids = self._tokenizer.encode(prompt).ids
        _, offsets = self._tokenizer.spans(prompt)
        spans: list[tuple[int, ...]] = []
        start = 0
        for phrase in phrases:
            end = start + len(phrase.text)
            # The frame's [CLS] moves every token one place on.
            spans.append(
                tuple(at + 1 for at, (a, b) in enumerate(offsets) if start <= a < b <= end)
            )
            start = end + len(_SEPARATOR)
        assert all(spans), "a phrase with tokens of its own also has them in its prompt"
        return _Prompt(pixels, mask, ids, phrases, tuple(spans), text_threshold)

    def detect(self, batch: Sequence[Prepared]) -> list[list[RawDetection]]:
        """Returns every candidate from the floor up, best first."""
        prompts: list[_Prompt] = [prepared.data for prepared in batch]
        device = self._placement.device
        with forward_pass():
            ids, attention = right_padded(
                [prompt.ids for prompt in prompts], self._tokenizer.pad_id
            )
            pixels = torch.stack([prompt.pixels for prompt in prompts])
            masks = [prompt.mask for prompt in prompts if prompt.mask is not None]
            outputs = self._model(
                pixel_values=pixels.to(device, self._placement.dtype),
                input_ids=ids.to(device),
                token_type_ids=torch.zeros_like(ids).to(device),
                attention_mask=attention.to(device),
                pixel_mask=torch.stack(masks).to(device) if masks else None,
            )
            scores = outputs.logits.float().sigmoid().cpu()
            boxes = outputs.pred_boxes.float().cpu()
        return [
            self._detections(prompt, scores[row], boxes[row]) for row, prompt in enumerate(prompts)
        ]

    def _detections(
        self, prompt: _Prompt, scores: torch.Tensor, boxes: torch.Tensor
    ) -> list[RawDetection]:
        """Maps one image's scores [boxes, tokens] and boxes [boxes, 4] back to its phrases."""
        by_phrase = torch.stack([scores[:, list(span)].amax(dim=1) for span in prompt.spans], dim=1)
        best, owner = by_phrase.max(dim=1)
        found: list[RawDetection] = []
        for row in (best >= DETECTION_FLOOR).nonzero().flatten().tolist():
            place = int(owner[row])
            phrase = prompt.phrases[place]
            label = self._label(prompt, prompt.spans[place], scores[row])
            box = clamped_corners(boxes[row].tolist())
            found.append(RawDetection(phrase.index, label or phrase.asked, float(best[row]), box))
        return sorted(found, key=lambda detection: -detection.score)

    def _label(self, prompt: _Prompt, span: Sequence[int], scores: torch.Tensor) -> str:
        """The tokens of the phrase that score above the text threshold, as text."""
        kept = [prompt.ids[at] for at in span if float(scores[at]) > prompt.text_threshold]
        return str(self._tokenizer.inner.decode(kept)) if kept else ""
