"""Folders of weights, checked before a library opens them. Knows files and the hub; not torch."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import huggingface_hub

from sightline_service.models.provenance import weights_revision
from sightline_service.models.reference import ModelLoadError, ModelReference

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
# InstructBLIP keeps its second tokeniser in qformer_tokenizer/; nobody needs another subfolder.
_SUBFOLDERS = ("[!q]*/*", "q[!f]*/*")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
_MAX_HEADER_BYTES = 100_000_000
_LONGEST_REASON = 400
_METADATA = "__metadata__"
_GIT_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder in the hub's layout, and the commit where it came from the hub."""

    folder: Path
    commit: str | None = None

    def require(self, *names: str, mend: str) -> Path:
        """Returns the first of the files that is there.

        Raises:
            ModelLoadError: none is there.
        """
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        raise ModelLoadError(f"{self.folder} lacks {' or '.join(names)}: {mend}")

    def read_json(self, name: str, *, mend: str) -> dict[str, object]:
        """Reads a JSON object.

        Raises:
            ModelLoadError: the file is missing, or is not a JSON object.
        """
        path = self.require(name, mend=mend)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{path} is not readable JSON ({error}): {mend}") from None
        if not isinstance(content, dict):
            raise ModelLoadError(f"{path} is not a JSON object: {mend}")
        return content

    def require_tokenizer(self) -> None:
        """Raises `ModelLoadError` where no tokeniser's files are there."""
        self.require(*_TOKENIZER_FILES, mend="save the model's tokenizer into this folder")

    def require_image_processor(self) -> None:
        """Raises `ModelLoadError` where nothing says how images are preprocessed."""
        mend = "save the model's processor into this folder; preprocessing is never guessed"
        path = self.require("preprocessor_config.json", "processor_config.json", mend=mend)
        combined = path.name == "processor_config.json"
        if combined and "image_processor" not in self.read_json(path.name, mend=mend):
            raise ModelLoadError(f"{path} lacks image_processor: {mend}")

    def check_weights(self) -> tuple[Path, ...]:
        """Returns the safetensors files, each complete.

        Raises:
            ModelLoadError: there is none, only pickles, or one is missing, cut short or broken.
        """
        files = tuple(sorted(self.folder.glob("*.safetensors")))
        if not files:
            pickles = sorted(file.name for kind in _PICKLES for file in self.folder.glob(kind))
            if pickles:
                raise ModelLoadError(
                    f"{self.folder / pickles[0]} is a pickle, which can run code when it is read: "
                    "convert it to safetensors with save_pretrained on a machine that trusts it, "
                    "or use a revision of the repository that has safetensors"
                )
            raise ModelLoadError(f"{self.folder} has no *.safetensors: copy the weights there")
        for index in self.folder.glob("*.safetensors.index.json"):
            self._check_shards(index)
        for file in files:
            check_safetensors(file)
        return files

    def _check_shards(self, index: Path) -> None:
        mend = "copy it again from its source"
        shards = self.read_json(index.name, mend=mend).get("weight_map")
        if not isinstance(shards, dict):
            raise ModelLoadError(f"{index} lacks weight_map: {mend}")
        for shard in sorted(set(shards.values())):
            self.require(shard, mend=f"{index.name} names it, so copy it there too")

    def revision(self) -> str:
        """Returns the hub's commit, or a hash over the weights and their configuration."""
        if self.commit is not None:
            return self.commit
        configs = [
            self.folder / name
            for name in ("config.json", "open_clip_config.json")
            if (self.folder / name).is_file()
        ]
        return weights_revision([*self.folder.glob("*.safetensors"), *configs])


def open_checkpoint(reference: ModelReference) -> Checkpoint:
    """Returns the reference's folder, fetching it from the hub where it names a repository.

    Only configuration and safetensors are fetched. HF_HOME and HF_HUB_OFFLINE are honoured.

    Raises:
        ModelLoadError: no such folder, or the repository cannot be fetched.
    """
    if reference.folder is not None:
        if reference.folder.is_file():
            raise ModelLoadError(
                f"{reference.folder} is a file: name the folder that also holds its configuration"
            )
        if not reference.folder.is_dir():
            raise ModelLoadError(f"{reference.folder} is not a folder: check the path")
        return Checkpoint(reference.folder)
    return snapshot(reference)


def snapshot(
    reference: ModelReference,
    *,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    cached_commit: str | None = None,
) -> Checkpoint:
    """Returns a repository's folder in the hub's cache, fetching what is not there.

    Args:
        reference: names the repository.
        cache_dir: the cache; None is the one of HF_HOME.
        endpoint: the hub's address; None is HF_ENDPOINT or huggingface.co.
        cached_commit: take this commit from the cache and ask no hub.

    Raises:
        ModelLoadError: the repository cannot be fetched, or is not in the cache.
    """
    assert reference.repository is not None
    try:
        path = huggingface_hub.snapshot_download(
            reference.repository,
            revision=cached_commit or reference.revision,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_SUBFOLDERS),
            cache_dir=cache_dir,
            endpoint=endpoint,
            local_files_only=cached_commit is not None,
        )
    except Exception as error:  # whatever the hub's client raises, the mend is one
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelLoadError(
            f"{reference.text}: the hub did not give {reference.repository} ({reason}): check the "
            "name and the network, or fetch it before and set HF_HOME to where it is"
        ) from error
    return Checkpoint(Path(path), commit=Path(path).name)


def check_safetensors(path: Path) -> None:
    """Checks that a safetensors file is whole, from its header alone.

    Raises:
        ModelLoadError: the header is broken, or the file is shorter or longer than it says.
    """
    mend = "copy it again from its source"
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(len(_GIT_LFS)) == _GIT_LFS:
            raise ModelLoadError(f"{path} is a Git LFS pointer: run git lfs pull in its repository")
        stream.seek(0)
        expected = _declared_size(stream, size)
    if expected is None:
        raise ModelLoadError(f"{path} is cut short or no safetensors file: {mend}")
    if size != expected:
        raise ModelLoadError(f"{path} has {size} bytes where its header says {expected}: {mend}")


def _declared_size(stream: BinaryIO, size: int) -> int | None:
    """Returns the bytes that a safetensors header asks for; None where it is no such header."""
    try:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(size, _MAX_HEADER_BYTES):
            return None
        header = json.loads(stream.read(length))
        ends = [int(spec["data_offsets"][1]) for name, spec in header.items() if name != _METADATA]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return 8 + length + max(ends, default=0)


@contextmanager
def loading(reference: ModelReference, checkpoint: Checkpoint | None = None) -> Generator[None]:
    """Turns whatever a library raises on a bad folder into one `ModelLoadError`."""
    try:
        yield
    except ModelLoadError:
        raise
    except Exception as error:  # libraries raise anything at all on a bad folder
        where = f" from {checkpoint.folder}" if checkpoint is not None else ""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:_LONGEST_REASON] or "no reason given"
        raise ModelLoadError(
            f"{reference.text} cannot be loaded{where} ({type(error).__name__}: {reason}): check "
            "that the folder holds one whole model of the kind that is asked for"
        ) from error
