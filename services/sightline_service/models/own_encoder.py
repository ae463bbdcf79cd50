"""FiSAO's self-alignment: the policy's own encoder as verifier. Knows weights; knows no scores.

A policy keeps the vision tower of the encoder that it was built on, without the text tower. Where
the tower was never trained further, the published encoder is the policy's own, and its text tower
fits. Here the weights say whether that is so.
"""

import logging
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sightline_service.models.checkpoint import Checkpoint, loading, open_checkpoint
from sightline_service.models.hf_similarity import HfSimilarity, load_hf_similarity
from sightline_service.models.placement import Placement
from sightline_service.models.policy_tower import encoder_of, policy_of
from sightline_service.models.reference import ModelLoadError, ModelReference

log = logging.getLogger(__name__)

_TOWER = re.compile(r".*(?:^|\.)vision_(?:tower|model)\.")
_COMPUTED = "position_ids"
"""A buffer that older libraries wrote into checkpoints."""


def load_own_encoder(reference: ModelReference, placement: Placement) -> HfSimilarity:
    """Loads `from-policy:POLICY[,ENCODER]`: the encoder, once its vision tower is the policy's.

    Scores, revision and preprocessing are those of the encoder under its own reference.

    Raises:
        ModelLoadError: naming the file and the mend, or why the policy has no such encoder.
    """
    policy = open_checkpoint(policy_of(reference))
    named = encoder_of(reference, policy)
    encoder = open_checkpoint(named)
    with loading(reference, policy):
        n_tensors = compare_towers(policy, encoder, named.text)
    log.info("%s: %d tensors equal those of %s", reference.text, n_tensors, named.text)
    return load_hf_similarity(replace(named, text=reference.text), placement)


def compare_towers(policy: Checkpoint, encoder: Checkpoint, name: str) -> int:
    """Returns how many tensors of the policy's vision tower were found equal to the encoder's.

    Both are rounded to the coarser of their two types. They agree where their difference is at
    most half of that type's epsilon of their length, which forgives weights that were rounded
    twice. A tower may lack layers that the policy does not use.

    Raises:
        ModelLoadError: the policy's weights hold no vision tower, or it is another than the
            encoder's.
    """
    theirs = dict(_tower(encoder))
    distances = {tensor: _distance(ours, theirs.get(tensor)) for tensor, ours in _tower(policy)}
    if not distances:
        raise ModelLoadError(
            f"{policy.folder} has no tensor of a vision tower: name the folder of a whole policy"
        )
    apart = {tensor: distance for tensor, distance in distances.items() if distance > 0}
    if apart:
        farthest = max(apart, key=lambda tensor: apart[tensor])
        raise ModelLoadError(
            f"{policy.folder}: {len(apart)} of {len(distances)} tensors of its vision tower are "
            f"not those of {name}, most of all {farthest}: the policy's tower was trained further "
            "or comes from elsewhere, so that no text tower fits its images; serve the published "
            f"encoder itself, --similarity {name}, or name the encoder that the policy was built "
            "on after a comma"
        )
    return len(distances)


def _distance(ours: torch.Tensor, theirs: torch.Tensor | None) -> float:
    """The length of the difference as a share of the tensor's own; 0 where they agree."""
    if theirs is None or ours.shape != theirs.shape:
        return math.inf
    coarser = max(ours.dtype, theirs.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    left, right = ours.to(coarser).double(), theirs.to(coarser).double()
    apart = float((left - right).norm())
    length = float(right.norm())
    if apart <= torch.finfo(coarser).eps / 2 * length:
        return 0.0
    return apart / length if length else math.inf


def _tower(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the vision tower's tensors by their names within it."""
    for file in checkpoint.check_weights():
        for name, tensor in _tensors(file):
            inside = _TOWER.sub("", name)
            if inside != name and not name.endswith(_COMPUTED):
                yield inside, tensor


def _tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors of towers; a file of safetensors is not read beyond them."""
    if file.suffix == ".bin":
        content: dict[str, Any] = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
        yield from content.items()
        return
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - no mapping
            if _TOWER.match(name):
                yield name, opened.get_tensor(name)
