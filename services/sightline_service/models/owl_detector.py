"""OWL-ViT and OWLv2 as detectors: each phrase is a query. Knows transformers and torch."""

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
class _Query:
    pixels: torch.Tensor
    ids: tuple[tuple[int, ...], ...]
    phrases: tuple[str, ...]
    extent: tuple[float, float]


class OwlDetector:
    """Scores every patch's box against every phrase; a box belongs to its best phrase.

    Args:
        model: the model, on its device.
        image_processor: its own image preprocessing.
        tokenizer: its own tokeniser.
        pads_to_square: the image fills only the upper left of a square that the model sees (OWLv2).
        placement: device and arithmetic.
        info: its identity in replies.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a class per architecture
        image_processor: Any,  # noqa: ANN401 - a class per architecture
        tokenizer: Tokenizer,
        *,
        pads_to_square: bool,
        placement: Placement,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.n_weights = n_weights(model)
        self._model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer
        self._pads_to_square = pads_to_square
        self._placement = placement

    def prepare(
        self, image: PIL.Image.Image, phrases: tuple[str, ...], *, text_threshold: float
    ) -> Sequence[Prepared]:
        """Returns one input; only inputs with as many phrases share its batch.

        OWL scores whole phrases, so that `text_threshold` changes nothing.
        """
        pixels = image_inputs(self._image_processor, image)["pixel_values"][0]
        tokens = [self._tokenizer.encode(phrase) for phrase in phrases]
        height, width = pixels.shape[-2:]
        query = _Query(
            pixels=pixels,
            ids=tuple(token.ids for token in tokens),
            phrases=phrases,
            extent=self._extent(image.width, image.height),
        )
        return [
            Prepared(
                data=query,
                cost=height * width,
                group=(height, width, len(phrases)),
                truncated=any(token.truncated for token in tokens),
            )
        ]

    def _extent(self, width: int, height: int) -> tuple[float, float]:
        """The share of the model's view that the image takes, across and down."""
        if not self._pads_to_square:
            return 1.0, 1.0
        side = max(width, height)
        return width / side, height / side

    def detect(self, batch: Sequence[Prepared]) -> list[list[RawDetection]]:
        """Returns every candidate from the floor up, best first."""
        queries: list[_Query] = [prepared.data for prepared in batch]
        with forward_pass():
            # The text tower is causal and pools at the end token, the highest id: what is padded
            # after it changes nothing, and needs no mask.
            ids, _ = right_padded([row for query in queries for row in query.ids], pad_id=0)
            pixels = torch.stack([query.pixels for query in queries])
            outputs = self._model(
                input_ids=ids.to(self._placement.device),
                pixel_values=pixels.to(self._placement.device, self._placement.dtype),
            )
            scores = outputs.logits.float().sigmoid().cpu()
            boxes = outputs.pred_boxes.float().cpu()
        return [_detections(query, scores[row], boxes[row]) for row, query in enumerate(queries)]


def _detections(query: _Query, scores: torch.Tensor, boxes: torch.Tensor) -> list[RawDetection]:
    """Maps one image's scores [patches, phrases] and boxes [patches, 4] back to its phrases."""
    best, phrase = scores.max(dim=1)
    across, down = query.extent
    found = [
        RawDetection(
            phrase_index=int(phrase[patch]),
            label=query.phrases[int(phrase[patch])],
            score=float(best[patch]),
            box=clamped_corners(boxes[patch].tolist(), across=across, down=down),
        )
        for patch in (best >= DETECTION_FLOOR).nonzero().flatten().tolist()
    ]
    return sorted(found, key=lambda detection: -detection.score)
