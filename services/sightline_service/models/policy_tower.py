"""Which encoder a policy's vision tower came from. Knows configurations; opens no weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sightline_service.models.checkpoint import Checkpoint
from sightline_service.models.reference import ModelLoadError, ModelReference


@dataclass(frozen=True, slots=True)
class Tower:
    """What tells published vision towers apart: architecture, width, patch and image in pixels."""

    model_type: str
    hidden_size: int
    patch_size: int
    image_size: int


_DEFAULTS: Mapping[str, Tower] = {
    "clip_vision_model": Tower("clip_vision_model", 768, 32, 224),
    "siglip_vision_model": Tower("siglip_vision_model", 768, 16, 224),
}
"""What a configuration leaves out has these values."""
ENCODERS: Mapping[Tower, str] = {
    Tower("clip_vision_model", 1024, 14, 336): "openai/clip-vit-large-patch14-336",
    Tower("clip_vision_model", 1024, 14, 224): "openai/clip-vit-large-patch14",
    Tower("clip_vision_model", 768, 16, 224): "openai/clip-vit-base-patch16",
    Tower("clip_vision_model", 768, 32, 224): "openai/clip-vit-base-patch32",
    Tower("siglip_vision_model", 1152, 14, 384): "google/siglip-so400m-patch14-384",
    Tower("siglip_vision_model", 1152, 14, 224): "google/siglip-so400m-patch14-224",
    Tower("siglip_vision_model", 768, 16, 224): "google/siglip-base-patch16-224",
}
"""Encoders that were published with their text towers; whether the weights are theirs is compared
when they are loaded."""
_NO_TEXT_TOWER = "another verifier, for example --similarity hf:google/siglip-so400m-patch14-384"


def policy_of(reference: ModelReference) -> ModelReference:
    """Returns the policy that `from-policy:POLICY[,ENCODER]` names."""
    assert reference.names is not None
    return _as_hf(reference.names[0], reference)


def encoder_of(reference: ModelReference, policy: Checkpoint) -> ModelReference:
    """Returns the encoder with both towers: the one that is named, else the published one.

    Raises:
        ModelLoadError: the policy has no vision tower, or none that has a text tower.
    """
    assert reference.names is not None
    where = policy.folder / "config.json"
    mend = "name the folder of a whole policy; an adapter is merged into its policy first"
    settings = policy.read_json("config.json", mend=mend).get("vision_config")
    if not isinstance(settings, dict):
        raise ModelLoadError(f"{where} lacks vision_config: the model sees no images; {mend}")
    kind = str(settings.get("model_type"))
    if kind not in _DEFAULTS:
        raise ModelLoadError(
            f"{where}: the policy's vision tower is {kind}, which was not trained beside a text "
            f"tower, so that nothing can embed texts for it: serve {_NO_TEXT_TOWER}"
        )
    if reference.names[1]:
        return _as_hf(reference.names[1], reference)
    tower = _tower(_DEFAULTS[kind], settings)
    if tower not in ENCODERS:
        raise ModelLoadError(
            f"{where}: no published encoder is known that has this vision tower ({tower}): name "
            f"its folder or repository, {reference.text},ENCODER, or serve {_NO_TEXT_TOWER}"
        )
    return _as_hf(ENCODERS[tower], reference)


def _tower(default: Tower, settings: Mapping[str, Any]) -> Tower:
    names = ("hidden_size", "patch_size", "image_size")
    return replace(default, **{name: settings[name] for name in names if name in settings})


def _as_hf(name: str, reference: ModelReference) -> ModelReference:
    parsed = ModelReference.parse(f"hf:{name}")
    return replace(parsed, allow_pickle=reference.allow_pickle)
