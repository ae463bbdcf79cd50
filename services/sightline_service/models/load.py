"""References become models. Knows who loads what; knows a library only once it is asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

from sightline_service.models.architectures import Kind
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.models.preflight import check_on_its_face
from sightline_service.models.protocols import Detector, PerplexityModel, SimilarityModel
from sightline_service.models.reference import ModelLoadError, ModelReference, Scheme

__all__ = ["ModelLoadError", "load_detector", "load_perplexity", "load_similarity", "preflight"]

Model = TypeVar("Model")
Loader = Callable[[ModelReference, str, str], Model]


def preflight(kind: Kind, reference: str, *, allow_pickle: bool = False) -> None:
    """Refuses what shows before a library is loaded, within a second.

    Raises:
        ModelLoadError: naming the reference or file, the fault and the mend.
    """
    parsed = _parsed(kind, _SCHEMES[kind], reference, allow_pickle)
    check_on_its_face(kind, parsed)


def load_similarity(
    reference: str, *, device: str, dtype: str, allow_pickle: bool = False
) -> SimilarityModel:
    """Loads a model that embeds images and texts: `open_clip:..`, `hf:..`, `from-policy:..` or so.

    Args:
        reference: in the grammar of `ModelReference`.
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "float32", "bfloat16" or "float16".
        allow_pickle: weights may also be pickles, which torch's restricted reader reads: it knows
            tensors and runs nothing.

    Raises:
        ModelLoadError: naming the reference or file, the fault and the mend.
    """
    return _load("similarity", _SIMILARITY, reference, allow_pickle)(device, dtype)


def load_detector(
    reference: str, *, device: str, dtype: str, allow_pickle: bool = False
) -> Detector:
    """Loads a detector: `hf:..`, `groundingdino:..`, world or fake. As above."""
    return _load("detector", _DETECTOR, reference, allow_pickle)(device, dtype)


def load_perplexity(
    reference: str, *, device: str, dtype: str, allow_pickle: bool = False
) -> PerplexityModel:
    """Loads a language model, with or without images: `hf:..`, world or fake. As above."""
    return _load("perplexity", _PERPLEXITY, reference, allow_pickle)(device, dtype)


def _load(
    kind: Kind, loaders: Mapping[Scheme, Loader[Model]], reference: str, allow_pickle: bool
) -> Callable[[str, str], Model]:
    parsed = _parsed(kind, loaders, reference, allow_pickle)
    return partial(loaders[parsed.scheme], parsed)


def _parsed(
    kind: Kind, known: Iterable[Scheme], reference: str, allow_pickle: bool
) -> ModelReference:
    parsed = replace(ModelReference.parse(reference), allow_pickle=allow_pickle)
    if parsed.scheme not in (schemes := list(known)):
        raise ModelLoadError(
            f"{reference} cannot serve as {kind} model: use one of {', '.join(schemes)}"
        )
    return parsed


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


def _own_encoder(reference: ModelReference, device: str, dtype: str) -> SimilarityModel:
    from sightline_service.models.own_encoder import load_own_encoder
    from sightline_service.models.placement import Placement

    return load_own_encoder(reference, Placement.resolve(device, dtype))


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
    Scheme.FROM_POLICY: _own_encoder,
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
_SCHEMES: Mapping[Kind, Iterable[Scheme]] = {
    "similarity": _SIMILARITY,
    "detector": _DETECTOR,
    "perplexity": _PERPLEXITY,
}
