"""The one grammar that names a model. Knows no library and touches no file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz")
_LOCAL_DIR, _HF_HUB = "local-dir:", "hf-hub:"
_FORMS = (
    "world, open_clip:NAME/TAG, open_clip:local-dir:/path, open_clip:hf-hub:org/name, "
    "hf:org/name, hf:org/name@revision, hf:/path, groundingdino:CONFIG,CHECKPOINT, "
    "from-policy:POLICY, from-policy:POLICY,ENCODER or fake"
)


class ModelLoadError(ValueError):
    """The model cannot be served: the message names the reference or file, fault and mend."""


class Scheme(StrEnum):
    """Which library loads the model."""

    WORLD = "world"
    OPEN_CLIP = "open_clip"
    HF = "hf"
    GROUNDINGDINO = "groundingdino"
    FROM_POLICY = "from-policy"
    FAKE = "fake"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """One parsed reference.

    Attributes:
        text: the reference as it was written, which is also the id that replies carry.
        scheme: which library loads the model.
        folder: a local folder, with `~` expanded, or None.
        repository: a hub repository `org/name`, or None.
        revision: the hub's branch, tag, `refs/pr/N` or commit; None is the default branch.
        names: (NAME, TAG) of an open_clip model, (CONFIG, CHECKPOINT) of groundingdino,
            (POLICY, ENCODER or "") of from-policy.
        allow_pickle: weights may be pickles too; no part of the text.
    """

    text: str
    scheme: Scheme
    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None
    names: tuple[str, str] | None = None
    allow_pickle: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses a reference: world, `open_clip:..`, `hf:..`, `groundingdino:..`,
        `from-policy:..` or fake.

        Raises:
            ModelLoadError: the reference is none of these, naming what is wrong and an example.
        """
        scheme, colon, rest = text.strip().partition(":")
        if scheme in {Scheme.WORLD, Scheme.FAKE} and not colon:
            return cls(text.strip(), Scheme(scheme))
        parsers: dict[str, Callable[[str, str], Self]] = {
            Scheme.OPEN_CLIP: cls._open_clip,
            Scheme.HF: cls._hf,
            Scheme.GROUNDINGDINO: cls._groundingdino,
            Scheme.FROM_POLICY: cls._from_policy,
        }
        parse = parsers.get(scheme)
        if parse is None or not colon:
            raise _refusal(text, "is no known form", f"use {_FORMS}")
        return parse(text.strip(), rest)

    @classmethod
    def _open_clip(cls, text: str, rest: str) -> Self:
        if rest.startswith(_LOCAL_DIR):
            return cls(text, Scheme.OPEN_CLIP, folder=_folder(text, rest.removeprefix(_LOCAL_DIR)))
        if rest.startswith(_HF_HUB):
            repository = _repository(text, rest.removeprefix(_HF_HUB))
            return cls(text, Scheme.OPEN_CLIP, repository=repository)
        if rest.endswith(_WEIGHT_SUFFIXES) or rest.startswith(("/", ".", "~")):
            raise _refusal(
                text,
                "is bare weights, which do not say how images are preprocessed",
                "put the weights beside an open_clip_config.json with model_cfg and preprocess_cfg "
                "and use open_clip:local-dir:/path/to/folder",
            )
        name, slash, tag = rest.partition("/")
        if not (name and slash and tag) or "/" in tag:
            raise _refusal(
                text, "lacks a name or a tag", "for example open_clip:ViT-L-14-336/openai"
            )
        return cls(text, Scheme.OPEN_CLIP, names=(name, tag))

    @classmethod
    def _hf(cls, text: str, rest: str) -> Self:
        if rest.startswith(("/", ".", "~")):
            return cls(text, Scheme.HF, folder=_folder(text, rest))
        name, at, revision = rest.partition("@")
        if at and not revision:
            raise _refusal(
                text, "has an empty revision", f"for example hf:{name}@main, or leave out @"
            )
        return cls(text, Scheme.HF, repository=_repository(text, name), revision=revision or None)

    @classmethod
    def _groundingdino(cls, text: str, rest: str) -> Self:
        config, comma, checkpoint = (part.strip() for part in rest.partition(","))
        if not (config and comma and checkpoint):
            raise _refusal(
                text,
                "needs a config and a checkpoint",
                "for example groundingdino:GroundingDINO_SwinT_OGC.py,groundingdino_swint_ogc.pth",
            )
        return cls(text, Scheme.GROUNDINGDINO, names=(config, checkpoint))

    @classmethod
    def _from_policy(cls, text: str, rest: str) -> Self:
        policy, comma, encoder = (part.strip() for part in rest.partition(","))
        if not policy or (comma and not encoder):
            raise _refusal(
                text,
                "lacks the policy, or the encoder after its comma",
                "for example from-policy:llava-hf/llava-1.5-7b-hf, or with the encoder's folder, "
                "from-policy:/models/llava-1.5-7b-hf,/models/clip-vit-large-patch14-336",
            )
        for part in (policy, encoder):
            if part:
                cls._hf(text, part)
        return cls(text, Scheme.FROM_POLICY, names=(policy, encoder))


def _folder(text: str, path: str) -> Path:
    if not path:
        raise _refusal(text, "has an empty path", "for example hf:/models/clip-vit-large-patch14")
    return Path(path).expanduser()


def _repository(text: str, name: str) -> str:
    if not _REPOSITORY.fullmatch(name):
        raise _refusal(
            text,
            f"has {name!r} where a hub repository belongs",
            "for example hf:openai/clip-vit-large-patch14, or begin a folder with / or ./",
        )
    return name


def _refusal(text: str, fault: str, mend: str) -> ModelLoadError:
    return ModelLoadError(f"model reference {text!r} {fault}: {mend}")
