"""The shipped sprites: one RGBA picture per category, and how they are rendered from the font.

Knows Pillow and the files under ``sprites/``; knows nothing of scenes. Licence: ``sprites/NOTICE``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sightline_world.categories import NAMES, category

_FOLDER = Path(__file__).parent / "sprites"
_FONT_SIZE = 109  # the only bitmap size that Noto Color Emoji holds

CODE_POINTS: dict[str, str] = {
    "person": "\U0001f9cd",
    "bicycle": "\U0001f6b2",
    "car": "\U0001f697",
    "motorcycle": "\U0001f3cd",
    "airplane": "\u2708",
    "bus": "\U0001f68c",
    "train": "\U0001f686",
    "truck": "\U0001f69a",
    "boat": "\u26f5",
    "traffic light": "\U0001f6a6",
    "stop sign": "\U0001f6d1",
    "bird": "\U0001f426",
    "cat": "\U0001f408",
    "dog": "\U0001f415",
    "horse": "\U0001f40e",
    "sheep": "\U0001f411",
    "cow": "\U0001f404",
    "elephant": "\U0001f418",
    "bear": "\U0001f43b",
    "zebra": "\U0001f993",
    "giraffe": "\U0001f992",
    "backpack": "\U0001f392",
    "umbrella": "\u2602",
    "handbag": "\U0001f45c",
    "tie": "\U0001f454",
    "suitcase": "\U0001f9f3",
    "frisbee": "\U0001f94f",
    "skis": "\U0001f3bf",
    "snowboard": "\U0001f3c2",
    "sports ball": "\u26bd",
    "kite": "\U0001fa81",
    "skateboard": "\U0001f6f9",
    "surfboard": "\U0001f3c4",
    "tennis racket": "\U0001f3be",
    "bottle": "\U0001f37e",
    "wine glass": "\U0001f377",
    "cup": "\u2615",
    "fork": "\U0001f374",
    "knife": "\U0001f52a",
    "spoon": "\U0001f944",
    "bowl": "\U0001f963",
    "banana": "\U0001f34c",
    "apple": "\U0001f34e",
    "sandwich": "\U0001f96a",
    "orange": "\U0001f34a",
    "broccoli": "\U0001f966",
    "carrot": "\U0001f955",
    "hot dog": "\U0001f32d",
    "pizza": "\U0001f355",
    "donut": "\U0001f369",
    "cake": "\U0001f382",
    "chair": "\U0001fa91",
    "couch": "\U0001f6cb",
    "potted plant": "\U0001fab4",
    "bed": "\U0001f6cf",
    "toilet": "\U0001f6bd",
    "tv": "\U0001f4fa",
    "laptop": "\U0001f4bb",
    "mouse": "\U0001f5b1",
    "keyboard": "\u2328",
    "cell phone": "\U0001f4f1",
    "book": "\U0001f4d5",
    "clock": "\u23f0",
    "vase": "\U0001f3fa",
    "scissors": "\u2702",
    "teddy bear": "\U0001f9f8",
    "toothbrush": "\U0001faa5",
}


def sprite_path(name: str) -> Path:
    """Where the sprite of the category ``name`` lies in the package."""
    return _FOLDER / f"{category(name).name.replace(' ', '_')}.png"


@cache
def sprite(name: str) -> Image.Image:
    """The RGBA sprite of the category ``name``, cropped to its visible pixels."""
    path = sprite_path(name)
    if not path.is_file():
        raise FileNotFoundError(f"the sprite {path} is missing: reinstall the sightline package")
    with Image.open(path) as image:
        return image.convert("RGBA")


def render_sprites(font_path: Path) -> None:
    """Draws every sprite again from a NotoColorEmoji.ttf, over the shipped files."""
    font = ImageFont.truetype(str(font_path), _FONT_SIZE)
    _FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        _glyph(name, font).save(sprite_path(name), optimize=True)


def _glyph(name: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), CODE_POINTS[name], font=font, embedded_color=True)
    glyph = canvas.crop(canvas.getbbox())
    if name == "fork":  # the emoji shows a fork on the left and a knife on the right
        glyph = glyph.crop((0, 0, glyph.width // 2, glyph.height))
        glyph = glyph.rotate(-35, Image.Resampling.BICUBIC, expand=True)  # upright it is a hair
        glyph = glyph.crop(glyph.getbbox())
    return glyph
