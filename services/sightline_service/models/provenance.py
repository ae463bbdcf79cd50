"""What a model is known by in replies: weights and preprocessing. Knows files and hashes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_WHOLE_FILE_BYTES = 256 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_SAMPLED_BLOCKS = 64
_DIGITS = 16


def weights_revision(files: Iterable[Path]) -> str:
    """Returns `sha256:` and 16 hex digits over the names and content of `files`, in name order.

    Files beyond 256 MiB, whose reading would delay the start by minutes, are represented by their
    size and 64 evenly spaced blocks of 1 MiB. The first block holds a safetensors header, with
    every tensor's name, shape and place.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            for start in _block_starts(size):
                stream.seek(start)
                digest.update(stream.read(_BLOCK_BYTES))
    return f"sha256:{digest.hexdigest()[:_DIGITS]}"


def _block_starts(size: int) -> Iterable[int]:
    if size <= _WHOLE_FILE_BYTES:
        return range(0, size, _BLOCK_BYTES)
    last = size - _BLOCK_BYTES
    return (last * block // (_SAMPLED_BLOCKS - 1) for block in range(_SAMPLED_BLOCKS))


def preprocess_hash(configuration: Mapping[str, Any]) -> str:
    """Returns 16 hex digits over a preprocessing configuration, whatever the order of its keys.

    The configuration says what is really applied: image size, mean, standard deviation,
    interpolation, resize mode, the tokeniser's definition and the context length.
    """
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
