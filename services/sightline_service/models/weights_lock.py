"""A lock of weights: which files, with which hashes, a service may load. Knows files and the hub.

The lock lies in the folder that it is about. For `hf:org/name` this folder is an HF_HOME: with
HF_HOME set to it and HF_HUB_OFFLINE=1, the service needs no network.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sightline_service.models.checkpoint import Checkpoint, open_checkpoint, snapshot
from sightline_service.models.policy_tower import encoder_of, policy_of
from sightline_service.models.provenance import preprocess_hash
from sightline_service.models.reference import ModelLoadError, ModelReference, Scheme

LOCK_NAME = "weights.lock.json"
_HUB = "hub"
_SHIPPED = frozenset({Scheme.WORLD, Scheme.FAKE})
_WEIGHTS = (".safetensors", ".bin")


class LockedModel(BaseModel):
    """One model of a lock.

    Attributes:
        reference: as it is given to the service.
        revision: the hub's commit; None for a local folder.
        preprocess: 16 hex digits over the files that are no weights: configuration, tokeniser and
            image preprocessing.
        files: SHA-256 (hex) by path within the model's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    revision: str | None
    preprocess: str
    files: dict[str, str]


class WeightsLock(BaseModel):
    """What `sightline weights fetch` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    models: tuple[LockedModel, ...]

    @classmethod
    def read(cls, path: Path) -> "WeightsLock":
        """Reads a lock file.

        Raises:
            ModelLoadError: the file is missing, or is no lock.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelLoadError(f"weights lock {path} cannot be read: {error.strerror}") from None
        except ValidationError:
            raise ModelLoadError(
                f"{path} is no weights lock: write it with sightline weights fetch"
            ) from None

    def of(self, reference: str, path: Path) -> LockedModel:
        """Returns the entry of a reference.

        Raises:
            ModelLoadError: the lock has none.
        """
        for model in self.models:
            if model.reference == reference:
                return model
        raise ModelLoadError(
            f"{reference} is not in {path}: add it with sightline weights fetch {reference}"
        )


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """The folder that holds a lock, and the hub's cache beside it."""

    path: Path

    @property
    def lock_path(self) -> Path:
        """Where the lock is."""
        return self.path / LOCK_NAME

    def fetch(
        self, references: Sequence[str], *, endpoint: str | None = None, allow_pickle: bool = False
    ) -> WeightsLock:
        """Brings the models here, and writes the lock of these and of those already in it.

        Args:
            references: `hf:org/name`, `hf:org/name@revision`, `open_clip:hf-hub:org/name`, or a
                local folder, which is locked where it is.
            endpoint: the hub's address, where it is not huggingface.co.
            allow_pickle: fetch pickles too where a repository has no safetensors.

        Raises:
            ModelLoadError: a reference cannot be locked or fetched.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        known = WeightsLock.read(self.lock_path).models if self.lock_path.is_file() else ()
        locked = {model.reference: model for model in known}
        for text in references:
            reference = replace(_lockable(text), allow_pickle=allow_pickle)
            checkpoint = self._checkpoint(reference, endpoint=endpoint)
            checkpoint.check_weights()
            locked[text] = _lock(text, checkpoint)
        lock = WeightsLock(models=tuple(locked.values()))
        self.lock_path.write_text(lock.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return lock

    def verify(self) -> WeightsLock:
        """Hashes every file that the lock names.

        Raises:
            ModelLoadError: naming the file and both hashes, or what is missing.
        """
        lock = WeightsLock.read(self.lock_path)
        for model in lock.models:
            checkpoint = self._checkpoint(_lockable(model.reference), locked=model)
            _compare(model, checkpoint, self.lock_path)
        return lock

    def _checkpoint(
        self,
        reference: ModelReference,
        *,
        endpoint: str | None = None,
        locked: LockedModel | None = None,
    ) -> Checkpoint:
        if reference.folder is not None:
            return open_checkpoint(reference)
        cached = None if locked is None else locked.revision
        cache = self.path / _HUB
        return snapshot(reference, cache_dir=cache, endpoint=endpoint, cached_commit=cached)


def check_locked(references: Iterable[str], lock_path: Path) -> None:
    """Checks that the models that will be loaded are, file by file, those of the lock.

    Models that ship with Sightline need no lock.

    Raises:
        ModelLoadError: naming the file and both hashes, or the reference that is not locked.
    """
    lock = WeightsLock.read(lock_path)
    for reference in map(ModelReference.parse, references):
        for part in _parts(reference):
            locked = lock.of(part.text, lock_path)
            _compare(locked, open_checkpoint(part), lock_path)


def _parts(reference: ModelReference) -> tuple[ModelReference, ...]:
    """The references under which a model's folders are locked."""
    if reference.scheme in _SHIPPED:
        return ()
    if reference.scheme is Scheme.FROM_POLICY:
        policy = policy_of(reference)
        return policy, encoder_of(reference, open_checkpoint(policy))
    return (_lockable(reference.text),)


def _lockable(text: str) -> ModelReference:
    reference = ModelReference.parse(text)
    if reference.folder is None and reference.repository is None:
        raise ModelLoadError(
            f"{text} cannot be locked: name a folder or a repository, for example "
            "hf:openai/clip-vit-large-patch14-336 or open_clip:hf-hub:org/name"
        )
    return reference


def _lock(text: str, checkpoint: Checkpoint) -> LockedModel:
    files = _hashes(checkpoint.folder)
    return LockedModel(
        reference=text,
        revision=checkpoint.commit,
        preprocess=_preprocess(files),
        files=files,
    )


def _hashes(folder: Path) -> dict[str, str]:
    return {name: _sha256(folder / name) for name in sorted(_names(folder))}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _preprocess(files: Mapping[str, str]) -> str:
    return preprocess_hash({n: sha for n, sha in files.items() if not n.endswith(_WEIGHTS)})


def _compare(locked: LockedModel, checkpoint: Checkpoint, lock_path: Path) -> None:
    mend = f"fetch it again, or lock what is there with sightline weights fetch {locked.reference}"
    if checkpoint.commit != locked.revision:
        raise ModelLoadError(
            f"{locked.reference} is at commit {checkpoint.commit}, and {lock_path} has "
            f"{locked.revision}: {mend}"
        )
    for name, expected in locked.files.items():
        path = checkpoint.folder / name
        if not path.is_file():
            raise ModelLoadError(f"{path} is missing, and {lock_path} names it: {mend}")
        if (found := _sha256(path)) != expected:
            raise ModelLoadError(
                f"{path} has sha256 {found}, and {lock_path} has {expected}: {mend}"
            )
    extra = sorted(set(_names(checkpoint.folder)) - set(locked.files))
    if extra:
        raise ModelLoadError(f"{checkpoint.folder / extra[0]} is not in {lock_path}: {mend}")


def _names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME)
    return [str(path.relative_to(folder)) for path in paths]
