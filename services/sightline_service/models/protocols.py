"""What the service asks of a model: prepare, then run a batch. Knows numpy and PIL, not torch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightline_proto import ModelInfo


class OutOfDeviceMemoryError(RuntimeError):
    """The device had no room for the batch: a smaller batch may succeed."""


class TextRefusedError(ValueError):
    """The model cannot score this text, and cutting it would change what is scored."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One input, ready for the device.

    Attributes:
        data: what the model that made it needs; opaque to everybody else.
        cost: pixels or tokens that the forward pass will see, at least 1.
        group: only inputs of equal `group` may share a batch, so that neighbours change nothing.
        truncated: the text was cut at the model's context length.
    """

    data: Any
    cost: int
    group: Hashable = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class RawDetection:
    """One candidate box, before thresholds and non-maximum suppression.

    Attributes:
        phrase_index: the place of the phrase among those given to `Detector.prepare`.
        label: the words of the phrase that the model found, or the phrase itself.
        score: in [0, 1].
        box: x1, y1, x2, y2 as fractions of the image that was given, each in [0, 1].
    """

    phrase_index: int
    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One text's tokens: half-open code point offsets, and log-probabilities in nats, shape [n]."""

    offsets: tuple[tuple[int, int], ...]
    log_probs: NDArray[np.float64]


class SimilarityModel(Protocol):
    """Embeds images and texts in one space, where cosine measures how well they fit.

    `prepare_*` is CPU work and safe to call from many threads; `embed_*` runs on the one thread
    that owns the model and may raise `OutOfDeviceMemoryError`.
    """

    @property
    def info(self) -> ModelInfo:
        """Which weights, preprocessing and arithmetic give the scores."""
        ...

    @property
    def n_weights(self) -> int:
        """Numbers that the model learned, by which its forward pass is small or large work."""
        ...

    @property
    def scale(self) -> str:
        """The unit of a score made from the cosine: "cos100"."""
        ...

    def prepare_image(self, image: PIL.Image.Image) -> Prepared:
        """Preprocesses an RGB image."""
        ...

    def prepare_text(self, text: str) -> Prepared:
        """Tokenises a text; one longer than the context is cut there and marked `truncated`."""
        ...

    def embed_images(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        ...

    def embed_texts(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        ...


class Detector(Protocol):
    """Finds boxes for phrases. The rules on threads and memory of `SimilarityModel` hold."""

    @property
    def info(self) -> ModelInfo:
        """Which weights, preprocessing and arithmetic give the scores."""
        ...

    @property
    def n_weights(self) -> int:
        """Numbers that the model learned, by which its forward pass is small or large work."""
        ...

    def prepare(
        self, image: PIL.Image.Image, phrases: tuple[str, ...], *, text_threshold: float
    ) -> Sequence[Prepared]:
        """Preprocesses an RGB image with its phrases.

        Args:
            image: the image to search.
            phrases: what to look for, at least one.
            text_threshold: score in [0, 1] from which a word belongs to a detection's label, in
                models that score words.

        Returns:
            One input, or several where the phrases do not fit one prompt: run them all and join
            their detections. A phrase too long for any prompt is cut, and its input `truncated`.

        Raises:
            TextRefusedError: a phrase holds nothing that the model could look for.
        """
        ...

    def detect(self, batch: Sequence[Prepared]) -> list[list[RawDetection]]:
        """Returns for each input every candidate that scores at least 0.05, best first."""
        ...


class PerplexityModel(Protocol):
    """Scores texts by teacher forcing, under the thread and memory rules of `SimilarityModel`."""

    @property
    def info(self) -> ModelInfo:
        """Which weights, preprocessing and arithmetic give the scores."""
        ...

    @property
    def n_weights(self) -> int:
        """Numbers that the model learned, by which its forward pass is small or large work."""
        ...

    @property
    def takes_image(self) -> bool:
        """Whether the model can see an image."""
        ...

    @property
    def needs_image(self) -> bool:
        """Whether the model cannot score a text without an image."""
        ...

    def prepare(self, image: PIL.Image.Image | None, prompt: str | None, text: str) -> Prepared:
        """Tokenises `text` as the answer to `prompt` about `image`.

        Raises:
            TextRefusedError: prompt and text together are longer than the model's context, or
                the text holds no token.
        """
        ...

    def prepare_each(
        self, image: PIL.Image.Image | None, prompt: str | None, texts: Sequence[str]
    ) -> list[Prepared]:
        """Prepares texts as `prepare` does, and what they share, image and prompt, only once.

        Raises:
            TextRefusedError: as `prepare` does, for the first text that is refused.
        """
        ...

    def score(self, batch: Sequence[Prepared]) -> list[TokenScores]:
        """Returns the log-probability of every token of each text, without end-of-text tokens."""
        ...
