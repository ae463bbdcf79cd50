"""Runs a saved detector as the service does: processor, model, post-processing, suppression.

Knows transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torchvision.ops import nms  # type: ignore[import-untyped]  # no types

from sightline_world.categories import NAMES
from sightline_world.training.detector import Detections

NMS_IOU = 0.7  # the service's default; it ignores classes
_LEAST = 0.03  # scores below are never of interest


@torch.no_grad()
def detect(folder: Path, images: Sequence[Image.Image], *, batch: int = 20) -> list[Detections]:
    """Detections of all 67 names in each image, after suppression at IoU 0.7."""
    library: Any = transformers  # its Auto classes carry no types
    processor = library.AutoProcessor.from_pretrained(folder)
    model = library.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    found: list[Detections] = []
    for start in range(0, len(images), batch):
        some = list(images[start : start + batch])
        inputs = processor(images=some, text=[list(NAMES)] * len(some), return_tensors="pt")
        boxes = processor.post_process_grounded_object_detection(
            model(**inputs), threshold=_LEAST, target_sizes=[(1, 1)] * len(some)
        )
        found += [_suppressed(one) for one in boxes]
    return found


def _suppressed(one: dict[str, torch.Tensor]) -> Detections:
    kept = nms(one["boxes"], one["scores"], NMS_IOU)
    scores, labels, boxes = (one[key][kept].numpy() for key in ("scores", "labels", "boxes"))
    return Detections(scores, labels, boxes)
