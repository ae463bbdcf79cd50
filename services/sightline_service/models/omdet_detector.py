"""OmDet-Turbo as a detector: each phrase is a class, all together the task. Knows torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch

from sightline_proto import ModelInfo
from sightline_service.models.boxes import DETECTION_FLOOR, clamped_corners
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.pretrained import image_inputs
from sightline_service.models.protocols import Prepared, RawDetection
from sightline_service.models.tensors import n_weights, right_padded
from sightline_service.models.tokenizing import Tokenizer


@dataclass(frozen=True, slots=True)
class _Task:
    pixels: torch.Tensor
    ids: tuple[int, ...]
    classes: tuple[tuple[int, ...], ...]
    phrases: tuple[str, ...]


class OmDetDetector:
    """Scores every query's box against every phrase; a box belongs to its best phrase.

    The task that OmDet-Turbo also reads is "Detect dog, cat.", as its own processor words it: a
    phrase's score depends on the phrases that it is asked for with.

    Args:
        model: the model, on its device.
        image_processor: its own image preprocessing.
        tokenizer: its own tokeniser.
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
        """Returns one input; only inputs with as many phrases and a task as long share its batch.

        Whole phrases are scored, so that `text_threshold` changes nothing.
        """
        pixels = image_inputs(self._image_processor, image)["pixel_values"][0]
        task = self._tokenizer.encode(f"Detect {', '.join(phrases)}.")
        classes = [self._tokenizer.encode(phrase) for phrase in phrases]
        height, width = pixels.shape[-2:]
        asked = _Task(
            pixels=pixels,
            ids=task.ids,
            classes=tuple(each.ids for each in classes),
            phrases=phrases,
        )
        return [
            Prepared(
                data=asked,
                cost=height * width,
                group=(height, width, len(phrases), len(task.ids)),
                truncated=task.truncated or any(each.truncated for each in classes),
            )
        ]

    def detect(self, batch: Sequence[Prepared]) -> list[list[RawDetection]]:
        """Returns every candidate from the floor up, best first."""
        tasks: list[_Task] = [prepared.data for prepared in batch]
        device = self._placement.device
        with forward_pass():
            # The text tower is causal: what is padded after the end token changes nothing.
            pad_id = self._tokenizer.pad_id
            classes, mask = right_padded([ids for task in tasks for ids in task.classes], pad_id)
            words, words_mask = right_padded([task.ids for task in tasks], pad_id)
            outputs = self._model(
                pixel_values=torch.stack([task.pixels for task in tasks]).to(
                    device, self._placement.dtype
                ),
                classes_input_ids=classes.to(device),
                classes_attention_mask=mask.to(device),
                tasks_input_ids=words.to(device),
                tasks_attention_mask=words_mask.to(device),
                classes_structure=torch.tensor([len(task.classes) for task in tasks]).to(device),
            )
            scores = outputs.decoder_class_logits.float().sigmoid().cpu()
            boxes = outputs.decoder_coord_logits.float().cpu()
        return [_detections(task, scores[row], boxes[row]) for row, task in enumerate(tasks)]


def _detections(task: _Task, scores: torch.Tensor, boxes: torch.Tensor) -> list[RawDetection]:
    """Maps one image's scores [queries, phrases] and boxes [queries, 4] back to its phrases."""
    best, phrase = scores[:, : len(task.phrases)].max(dim=1)
    found = [
        RawDetection(
            phrase_index=int(phrase[row]),
            label=task.phrases[int(phrase[row])],
            score=float(best[row]),
            box=clamped_corners(boxes[row].tolist()),
        )
        for row in (best >= DETECTION_FLOOR).nonzero().flatten().tolist()
    ]
    return sorted(found, key=lambda detection: -detection.score)
