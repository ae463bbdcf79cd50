"""What is wrong with a model on its face. Knows files; loads neither torch nor a library of models.

A service asks before it opens its port, so that a slip costs a second and not a minute.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub.constants

from sightline_service.models.architectures import Kind, check_kind
from sightline_service.models.checkpoint import (
    Checkpoint,
    check_safetensors,
    check_torch_file,
    open_checkpoint,
)
from sightline_service.models.original_config import (
    missing_package,
    original_files,
    read_original_config,
)
from sightline_service.models.policy_tower import encoder_of, policy_of
from sightline_service.models.reference import ModelLoadError, ModelReference, Scheme

_OPEN_CLIP_CONFIG = "open_clip_config.json"
_OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_OPEN_CLIP_PICKLE = "open_clip_pytorch_model.bin"


def check_on_its_face(kind: Kind, reference: ModelReference) -> None:
    """Checks whatever shows without loading: files, formats, architectures, packages.

    What is still on the hub is checked once it is here; with HF_HUB_OFFLINE it is here or missing.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    checks: dict[Scheme, Callable[[Kind, ModelReference], None]] = {
        Scheme.OPEN_CLIP: _check_open_clip,
        Scheme.HF: _check_hf,
        Scheme.GROUNDINGDINO: _check_original,
        Scheme.FROM_POLICY: _check_from_policy,
    }
    if check := checks.get(reference.scheme):
        check(kind, reference)


def check_open_clip_folder(checkpoint: Checkpoint) -> None:
    """Checks that a folder says what model and what preprocessing its weights are for.

    Raises:
        ModelLoadError: naming the file that is missing or broken.
    """
    mend = "write it with open_clip's push_to_hf_hub.save_for_hf; preprocessing is never guessed"
    config = checkpoint.read_json(_OPEN_CLIP_CONFIG, mend=mend)
    preprocess, model = config.get("preprocess_cfg"), config.get("model_cfg")
    where = checkpoint.folder / _OPEN_CLIP_CONFIG
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg"), dict):
        raise ModelLoadError(f"{where} lacks model_cfg with text_cfg: {mend}")
    if not isinstance(preprocess, dict) or not {"mean", "std"} <= preprocess.keys():
        raise ModelLoadError(f"{where} lacks preprocess_cfg with mean and std: {mend}")
    checkpoint.check_weights()
    names = _OPEN_CLIP_WEIGHTS if checkpoint.safetensors else (_OPEN_CLIP_PICKLE,)
    checkpoint.require(*names, mend="give the open_clip weights this name")
    if model["text_cfg"].get("hf_tokenizer_name"):
        checkpoint.require_tokenizer()


def _here(reference: ModelReference) -> Checkpoint | None:
    """The reference's folder; None where only the hub has it."""
    if reference.folder is None and not huggingface_hub.constants.HF_HUB_OFFLINE:
        return None
    return open_checkpoint(reference)


def _check_hf(kind: Kind, reference: ModelReference) -> None:
    checkpoint = _here(reference)
    if checkpoint is None:
        return
    check_kind(checkpoint, kind)
    checkpoint.check_weights()
    checkpoint.require_tokenizer()
    if kind != "perplexity" or "vision_config" in checkpoint.read_json("config.json", mend=""):
        checkpoint.require_image_processor()


def _check_open_clip(_: Kind, reference: ModelReference) -> None:
    if reference.names is None:
        checkpoint = _here(reference)
        if checkpoint is not None:
            check_open_clip_folder(checkpoint)
        return
    name, _tag = reference.names
    spec = find_spec("open_clip")
    locations = spec.submodule_search_locations if spec else None
    known = [path.stem for at in locations or () for path in Path(at).glob("model_configs/*.json")]
    if known and name not in known:
        raise ModelLoadError(
            f"{reference.text}: open_clip has no model {name!r}: see open_clip.list_pretrained(), "
            "for example open_clip:ViT-L-14-336/openai"
        )


def _check_original(_: Kind, reference: ModelReference) -> None:
    config, weights = original_files(reference)
    read_original_config(config)
    if weights.suffix == ".safetensors":
        check_safetensors(weights)
    else:
        check_torch_file(weights)
    if find_spec("groundingdino") is None:
        raise missing_package(reference, "groundingdino")


def _check_from_policy(kind: Kind, reference: ModelReference) -> None:
    policy = _here(policy_of(reference))
    if policy is None:
        return
    policy.check_weights()
    _check_hf(kind, encoder_of(reference, policy))
