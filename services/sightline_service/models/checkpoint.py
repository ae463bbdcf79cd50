"""Folders of weights, checked before a library opens them. Knows files and the hub; not torch."""

import json
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import huggingface_hub

from sightline_service.models.provenance import weights_revision
from sightline_service.models.reference import ModelLoadError, ModelReference

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
# InstructBLIP keeps its second tokeniser in qformer_tokenizer/; nobody needs another subfolder.
_SUBFOLDERS = ("[!q]*/*", "q[!f]*/*")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_READ_PICKLES = ("pytorch_model*.bin", "open_clip_pytorch_model.bin")
"""The names under which the libraries look for pickles; others are never read."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
_MAX_HEADER_BYTES = 100_000_000
_LONGEST_REASON = 400
_METADATA = "__metadata__"
_GIT_LFS = b"version https://git-lfs"
_COPY_AGAIN = "copy it again from its source"
_TORCH_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file begins that torch.save wrote before version 1.6."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder in the hub's layout.

    Attributes:
        folder: where it is.
        commit: the hub's, where it came from there.
        allow_pickle: weights may be pickles where there are no safetensors.
    """

    folder: Path
    commit: str | None = None
    allow_pickle: bool = False

    @property
    def safetensors(self) -> tuple[Path, ...]:
        """The weights in safetensors files, in order of their names."""
        return tuple(sorted(self.folder.glob("*.safetensors")))

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files that a library will read: safetensors, or else pickles where allowed."""
        if self.safetensors or not self.allow_pickle:
            return self.safetensors
        return tuple(sorted(file for kind in _READ_PICKLES for file in self.folder.glob(kind)))

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
        """Returns the files of the weights, each complete; nothing in a pickle is read.

        Raises:
            ModelLoadError: there is none, only pickles that are not allowed, or one is missing,
                cut short or broken.
        """
        files = self.weights
        if not files:
            self._refuse_pickles()
            raise ModelLoadError(f"{self.folder} has no *.safetensors: copy the weights there")
        for index in self.folder.glob(f"*{files[0].suffix}.index.json"):
            self._check_shards(index)
        for file in files:
            check_torch_file(file) if file.suffix == ".bin" else check_safetensors(file)
        return files

    def _refuse_pickles(self) -> None:
        pickles = sorted(file.name for kind in _PICKLES for file in self.folder.glob(kind))
        if not pickles:
            return
        path = self.folder / pickles[0]
        if self.allow_pickle:
            raise ModelLoadError(
                f"{path} is a pickle under a name that is not read: give it the name that its "
                "library writes, pytorch_model.bin or open_clip_pytorch_model.bin"
            )
        raise ModelLoadError(
            f"{path} is a pickle, which can run code when it is read: convert it to safetensors "
            "with save_pretrained on a machine that trusts it, use a revision of the repository "
            "that has safetensors, or say --allow-pickle, with which torch's restricted reader "
            "reads it"
        )

    def _check_shards(self, index: Path) -> None:
        shards = self.read_json(index.name, mend=_COPY_AGAIN).get("weight_map")
        if not isinstance(shards, dict):
            raise ModelLoadError(f"{index} lacks weight_map: {_COPY_AGAIN}")
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
        return weights_revision([*self.weights, *configs])


def open_checkpoint(reference: ModelReference) -> Checkpoint:
    """Returns the reference's folder, fetching it from the hub where it names a repository.

    Only configuration and safetensors are fetched, or pickles where the reference allows them and
    there is nothing else. HF_HOME and HF_HUB_OFFLINE are honoured.

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
        return Checkpoint(reference.folder, allow_pickle=reference.allow_pickle)
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
    fetch = partial(
        huggingface_hub.snapshot_download,
        reference.repository,
        revision=cached_commit or reference.revision,
        ignore_patterns=list(_SUBFOLDERS),
        cache_dir=cache_dir,
        endpoint=endpoint,
        local_files_only=cached_commit is not None,
    )
    try:
        path = fetch(allow_patterns=list(_WANTED))
        checkpoint = Checkpoint(Path(path), Path(path).name, reference.allow_pickle)
        if reference.allow_pickle and not checkpoint.safetensors:
            fetch(allow_patterns=list(_READ_PICKLES))
    except Exception as error:  # whatever the hub's client raises, the mend is one
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelLoadError(
            f"{reference.text}: the hub did not give {reference.repository} ({reason}): check the "
            "name and the network, or fetch it before and set HF_HOME to where it is"
        ) from error
    return checkpoint


def check_safetensors(path: Path) -> None:
    """Checks that a safetensors file is whole, from its header alone.

    Raises:
        ModelLoadError: the header is broken, or the file is shorter or longer than it says.
    """
    _refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as stream:
        expected = _declared_size(stream, size)
    if expected is None:
        raise ModelLoadError(f"{path} is cut short or no safetensors file: {_COPY_AGAIN}")
    if size != expected:
        raise ModelLoadError(
            f"{path} has {size} bytes where its header says {expected}: {_COPY_AGAIN}"
        )


def check_torch_file(path: Path) -> None:
    """Checks that a file that torch.save wrote is whole, and unpickles nothing.

    Raises:
        ModelLoadError: the file lacks the end of its archive, or never was one.
    """
    _refuse_pointer(path)
    with path.open("rb") as stream:
        old = stream.read(len(_TORCH_BEFORE_ZIP)) == _TORCH_BEFORE_ZIP
    if not old and not zipfile.is_zipfile(path):
        raise ModelLoadError(f"{path} is cut short or not of torch.save: {_COPY_AGAIN}")


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(len(_GIT_LFS)) == _GIT_LFS:
            raise ModelLoadError(f"{path} is a Git LFS pointer: run git lfs pull in its repository")


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
