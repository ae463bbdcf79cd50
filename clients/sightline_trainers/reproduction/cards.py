"""Scenes with what two policies say of them, as HTML. Knows HTML; measures nothing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sightline_eval.lexicon import Lexicon, load_lexicon
from sightline_eval.mentions import Mention, find_mentions
from sightline_eval.world_captions import encode_png
from sightline_world.scenes import Scene


@dataclass(frozen=True, slots=True)
class Said:
    """A policy's name and its caption of one scene."""

    who: str
    caption: str


def render_cards(scenes: Sequence[Scene], captions: Sequence[Sequence[Said]]) -> str:
    """One card per scene: the picture, and each caption with what is wrong marked."""
    lexicon = load_lexicon("clean")
    return "".join(
        _card(scene, said, lexicon) for scene, said in zip(scenes, captions, strict=True)
    )


def mark_caption(caption: str, truth: frozenset[str], lexicon: Lexicon) -> str:
    """A caption as HTML, objects in the picture and not in it marked differently.

    Args:
        caption: all of it is escaped.
        truth: the objects of the picture, in the lexicon's names.
        lexicon: CHAIR's words.
    """
    parts: list[str] = []
    position = 0
    for mention in find_mentions(caption, lexicon):
        parts.append(escape(caption[position : mention.start]))
        parts.append(_mark(caption, mention, there=mention.object in truth))
        position = mention.end
    return "".join(parts) + escape(caption[position:])


def _mark(caption: str, mention: Mention, *, there: bool) -> str:
    css, tip = ("up", "in the picture") if there else ("down wrong", "NOT in the picture")
    word = escape(caption[mention.start : mention.end])
    return (
        f'<mark class="{css}" style="--a:.3" title="{escape(mention.object)}: {tip}">{word}</mark>'
    )


def _card(scene: Scene, said: Sequence[Said], lexicon: Lexicon) -> str:
    truth = frozenset(lexicon.objects[name] for name in scene.layout.names)
    data = base64.b64encode(encode_png(scene.image)).decode("ascii")
    names = escape(", ".join(scene.layout.names), quote=True)
    captions = "".join(
        f"<h4>{escape(each.who)}</h4><p>{mark_caption(each.caption, truth, lexicon)}</p>"
        f"<p class=note>{_note(each.caption, truth, lexicon)}</p>"
        for each in said
    )
    return (
        f'<article class=card><figure><img src="data:image/png;base64,{data}" width=384 height=384 '
        f'alt="A scene with {names}"></figure><div><h3>Scene {scene.index}: '
        f"{escape(scene.layout.kind)}</h3>{captions}</div></article>"
    )


def _note(caption: str, truth: frozenset[str], lexicon: Lexicon) -> str:
    named = {mention.object for mention in find_mentions(caption, lexicon)}
    wrong, unnamed = sorted(named - truth), sorted(truth - named)
    notes = [
        f"<span class=bad>hallucinated: {escape(', '.join(wrong))}</span>" if wrong else "",
        f"<span>left out: {escape(', '.join(unnamed))}</span>" if unnamed else "",
    ]
    return " &middot; ".join(filter(None, notes)) or "names all that is there, and nothing else"
