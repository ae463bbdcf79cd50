"""Draws boxes on an image. Knows PIL; knows no service."""

from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps

from sightline_proto import Detection

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind readers as well (Okabe and Ito)."""


def draw_boxes(image: PIL.Image.Image, detections: Sequence[Detection]) -> PIL.Image.Image:
    """Returns an upright RGB copy with each box and its label; one colour per phrase."""
    upright = PIL.ImageOps.exif_transpose(image).convert("RGB")
    phrases = list(dict.fromkeys(found.phrase for found in detections))
    stroke = max(2, round(max(upright.size) / 300))
    font = PIL.ImageFont.load_default(size=max(10, 5 * stroke))
    canvas = PIL.ImageDraw.Draw(upright)
    for found in reversed(detections):
        colour = _COLOURS[phrases.index(found.phrase) % len(_COLOURS)]
        x1, y1, x2, y2 = found.box_pixels
        canvas.rectangle((x1, y1, x2, y2), outline=colour, width=stroke)
        label = f"{found.phrase} {found.score:.2f}"
        left, top, right, bottom = canvas.textbbox((x1 + stroke, y1 + stroke), label, font=font)
        canvas.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=colour)
        canvas.text((x1 + stroke, y1 + stroke), label, fill="white", font=font)
    return upright
