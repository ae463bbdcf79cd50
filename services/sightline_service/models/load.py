"""References become models. Knows who loads what; knows a library only once it is asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.models.protocols import Detector, PerplexityModel, SimilarityModel
from sightline_service.models.reference import ModelLoadError, ModelReference, Scheme

__all__ = ["ModelLoadError", "load_detector", "load_perplexity", "load_similarity"]

Model = TypeVar("Model")
Loader = Callable[[ModelReference, str, str], Model]


def load_similarity(reference: str, *, device: str, dtype: str) -> SimilarityModel:
    """Loads a model that embeds images and texts: `open_clip:..`, `hf:..`, world or fake.

    Args:
        reference: in the grammar of `ModelReference`.
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "float32", "bfloat16" or "float16".

    Raises:
        ModelLoadError: naming the reference or file, the fault and the mend.
    """
    return _load("similarity", _SIMILARITY, reference, device, dtype)


def load_detector(reference: str, *, device: str, dtype: str) -> Detector:
    """Loads a detector: `hf:..`, `groundingdino:..`, world or fake. As above."""
    return _load("detector", _DETECTOR, reference, device, dtype)


def load_perplexity(reference: str, *, device: str, dtype: str) -> PerplexityModel:
    """Loads a language model, with or without images: `hf:..`, world or fake. As above."""
    return _load("perplexity", _PERPLEXITY, reference, device, dtype)


def _load(
    kind: str, loaders: dict[Scheme, Loader[Model]], reference: str, device: str, dtype: str
) -> Model:
    parsed = ModelReference.parse(reference)
    load = loaders.get(parsed.scheme)
    if load is None:
        known = ", ".join(loaders)
        raise ModelLoadError(f"{reference} cannot serve as {kind} model: use one of {known}")
    return load(parsed, device, dtype)


def _world(
    reference: ModelReference,
    scheme: Scheme,
    name: Literal["similarity", "detector", "captioner"],
) -> ModelReference:
    """Points at the weights that ship with Sightline; the id stays "world"."""
    from sightline_world import weights

    try:
        return replace(reference, scheme=scheme, folder=weights.path(name))
    except FileNotFoundError as error:
        raise ModelLoadError(str(error)) from None


def _open_clip_similarity(reference: ModelReference, device: str, dtype: str) -> SimilarityModel:
    from sightline_service.models.open_clip_similarity import load_open_clip_similarity
    from sightline_service.models.placement import Placement

    return load_open_clip_similarity(reference, Placement.resolve(device, dtype))


def _hf_similarity(reference: ModelReference, device: str, dtype: str) -> SimilarityModel:
    from sightline_service.models.hf_similarity import load_hf_similarity
    from sightline_service.models.placement import Placement

    return load_hf_similarity(reference, Placement.resolve(device, dtype))


def _hf_detector(reference: ModelReference, device: str, dtype: str) -> Detector:
    from sightline_service.models.hf_detector import load_hf_detector
    from sightline_service.models.placement import Placement

    return load_hf_detector(reference, Placement.resolve(device, dtype))


def _original_dino(reference: ModelReference, device: str, dtype: str) -> Detector:
    from sightline_service.models.original_dino import load_original_dino
    from sightline_service.models.placement import Placement

    return load_original_dino(reference, Placement.resolve(device, dtype))


def _hf_perplexity(reference: ModelReference, device: str, dtype: str) -> PerplexityModel:
    from sightline_service.models.hf_perplexity import load_hf_perplexity
    from sightline_service.models.placement import Placement

    return load_hf_perplexity(reference, Placement.resolve(device, dtype))


def _world_similarity(reference: ModelReference, device: str, dtype: str) -> SimilarityModel:
    return _open_clip_similarity(_world(reference, Scheme.OPEN_CLIP, "similarity"), device, dtype)


def _world_detector(reference: ModelReference, device: str, dtype: str) -> Detector:
    return _hf_detector(_world(reference, Scheme.HF, "detector"), device, dtype)


def _world_perplexity(reference: ModelReference, device: str, dtype: str) -> PerplexityModel:
    return _hf_perplexity(_world(reference, Scheme.HF, "captioner"), device, dtype)


_SIMILARITY: dict[Scheme, Loader[SimilarityModel]] = {
    Scheme.WORLD: _world_similarity,
    Scheme.OPEN_CLIP: _open_clip_similarity,
    Scheme.HF: _hf_similarity,
    Scheme.FAKE: lambda reference, device, dtype: FakeSimilarity(),
}
_DETECTOR: dict[Scheme, Loader[Detector]] = {
    Scheme.WORLD: _world_detector,
    Scheme.HF: _hf_detector,
    Scheme.GROUNDINGDINO: _original_dino,
    Scheme.FAKE: lambda reference, device, dtype: FakeDetector(),
}
_PERPLEXITY: dict[Scheme, Loader[PerplexityModel]] = {
    Scheme.WORLD: _world_perplexity,
    Scheme.HF: _hf_perplexity,
    Scheme.FAKE: lambda reference, device, dtype: FakePerplexity(),
}
