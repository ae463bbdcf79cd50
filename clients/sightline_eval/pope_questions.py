"""POPE's yes/no questions: which objects are asked about. Knows names of objects; scores nothing.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023. Half the
questions ask for an object of the image, half for one that is not there, chosen at random, because
it is frequent, or because it often goes with the object asked for before.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import inflect
import numpy as np

Split = Literal["random", "popular", "adversarial"]
SPLITS: tuple[Split, ...] = ("random", "popular", "adversarial")

_ENGINE = inflect.engine()
ImageId = TypeVar("ImageId", int, str)


@dataclass(frozen=True, slots=True)
class Question:
    """One question, whose right answer is yes or no.

    `id` is unique within its split, and `image` is a file name or an id as text.
    """

    id: int
    image: str
    text: str
    is_yes: bool


def ask(name: str) -> str:
    """POPE's wording: "Is there an oven in the image?"."""
    return f"Is there {_ENGINE.a(name)} in the image?"


def build_questions(
    objects: Mapping[ImageId, Collection[str]],
    split: Split,
    *,
    images: int = 500,
    per_image: int = 3,
    seed: int = 0,
    wording: Callable[[str], str] = ask,
) -> tuple[Question, ...]:
    """One split of `2 * per_image` questions an image: each "yes" is followed by a "no".

    In all splits of one seed the images and the objects present that are asked for are the same, so
    the "no" questions alone differ. An absent object is asked for once per image. Ties of frequency
    go by the alphabet; where no object has ever gone with the one asked for before, the adversarial
    choice is random.

    Departures from the published builder: it asks for the first objects that the annotation lists,
    where these are drawn; and it writes "imange" for words with "an".

    Args:
        objects: image -> the objects in it. What no image holds is never asked for.
        images: how many images are drawn of those with at least `per_image` objects; frequencies
            are counted among them.

    Raises:
        ValueError: a number is below 1, too few images are fit, or an image leaves too few objects
            to ask for.
    """
    if min(images, per_image) < 1:
        raise ValueError(f"images is {images} and per_image {per_image}: both must be 1 or more")
    fit = sorted(image for image, names in objects.items() if len(set(names)) >= per_image)
    if len(fit) < images:
        raise ValueError(
            f"images is {images}, but only {len(fit)} have {per_image} objects or more: "
            f"ask for fewer images or give more annotations"
        )
    rng = np.random.default_rng((seed, 0))
    drawn = [fit[i] for i in rng.permutation(len(fit))[:images]]
    scenes = [_Scene(str(image), tuple(sorted(set(objects[image])))) for image in drawn]
    asked = [[scene.names[i] for i in rng.permutation(len(scene.names))] for scene in scenes]
    pick = _Picker(split, scenes, seed)
    pairs = (
        (scene.image, name, is_yes)
        for scene, present in zip(scenes, asked, strict=True)
        for name, is_yes in pick.alternate(scene, present[:per_image])
    )
    return tuple(
        Question(number, image, wording(name), is_yes)
        for number, (image, name, is_yes) in enumerate(pairs, start=1)
    )


@dataclass(frozen=True, slots=True)
class _Scene:
    image: str
    names: tuple[str, ...]


class _Picker:
    """Chooses absent objects by one split's rule."""

    def __init__(self, split: Split, scenes: Sequence[_Scene], seed: int) -> None:
        self._split = split
        self._rng = np.random.default_rng((seed, 1))
        self._frequency = Counter(name for scene in scenes for name in scene.names)
        self._companions: dict[str, Counter[str]] = {name: Counter() for name in self._frequency}
        for scene in scenes:
            for name in scene.names:
                self._companions[name].update(other for other in scene.names if other != name)

    def alternate(self, scene: _Scene, present: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """Each object of `present`, followed by an absent one."""
        absent = sorted(self._frequency.keys() - set(scene.names))
        if len(absent) < len(present):
            raise ValueError(
                f"image {scene.image} leaves {len(absent)} objects to ask for where "
                f"{len(present)} are needed: give more images or lower per_image"
            )
        for name in present:
            yield name, True
            chosen = self._choose(name, absent)
            absent.remove(chosen)
            yield chosen, False

    def _choose(self, name: str, absent: Sequence[str]) -> str:
        counts = {
            "random": Counter[str](),
            "popular": self._frequency,
            "adversarial": self._companions[name],
        }[self._split]
        best = max(absent, key=lambda other: counts[other])
        return best if counts[best] else absent[int(self._rng.integers(len(absent)))]
