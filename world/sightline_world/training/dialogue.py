"""Scenes as the captioner's training rows. Knows tokens; knows no model.

A row holds the image once, followed by branches: captions and several yes/no questions. A branch
sees the image and itself, not its siblings, and its positions start right after the image, so each
is exactly the single-turn prompt of use; one pass over an image's tokens serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sightline_core.grounding import Box, format_context
from sightline_world.captions import BULLET, DESCRIBE, GROUNDED, question
from sightline_world.categories import NAMES
from sightline_world.scenes import Layout, absent

IMAGE_TOKENS = 64
_CAPTION, _VERDICT, _ENDING = 1.0, 3.0, 0.1  # loss weights per token


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids after the image; ``weights`` (same length) are 0 on the prompt."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids``, ``positions``, ``weights`` (B, L).

    ``mask`` (B, 1, L, L), 0 where attention is allowed, else -inf-like.
    """

    ids: Tensor
    positions: Tensor
    weights: Tensor
    mask: Tensor


def special_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one special token."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int), token
    return number


class Script:
    """Writes prompts, captions and answers as token ids, in the words of the chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        start, self._end, self.image_id = (
            special_id(tokenizer, token) for token in ("<s>", "</s>", "<image>")
        )
        self.prefix = [start, *self._ids("USER: "), *[self.image_id] * IMAGE_TOKENS]
        self._describe = self._ids(f"\n{DESCRIBE} ASSISTANT:")
        self._questions = {name: self._ids(f"\n{question(name)} ASSISTANT:") for name in NAMES}
        self.verdicts = {True: self._ids(" Yes."), False: self._ids(" No.")}

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def caption(self, text: str) -> Branch:
        """The turn that describes the image."""
        answer = [*self._ids(f" {text}"), self._end]
        return Branch(
            self._describe + answer, [0.0] * len(self._describe) + [_CAPTION] * len(answer)
        )

    def grounded(self, found: Sequence[tuple[str, Box]], text: str) -> Branch:
        """The turn that describes the image with the boxes of a detector in its prompt."""
        context = format_context(found, bullet=BULLET)
        prompt = self._ids(f"\n{GROUNDED.format(context=context)} ASSISTANT:")
        answer = [*self._ids(f" {text}"), self._end]
        return Branch(prompt + answer, [0.0] * len(prompt) + [_CAPTION] * len(answer))

    def verdict(self, name: str, *, present: bool) -> Branch:
        """The turn that asks for one object and answers truthfully."""
        prompt, answer = self._questions[name], [*self.verdicts[present], self._end]
        weights = [_VERDICT, *[_ENDING] * (len(answer) - 1)]
        return Branch(prompt + answer, [0.0] * len(prompt) + weights)


def asked(layout: Layout, rng: np.random.Generator, pairs: int) -> list[tuple[str, bool]]:
    """``pairs`` present and as many absent objects; each absent one hard with probability 0.6."""
    names = list(rng.permutation(layout.names)[:pairs])
    missing = [absent(layout, rng, hard=bool(rng.random() < 0.6)) for _ in names]
    return [(str(name), True) for name in names] + [(name, False) for name in missing]


def batch(prefix: Sequence[int], rows: Sequence[Sequence[Branch]]) -> Batch:
    """Packs rows of branches behind the common prefix, filled up on the right with id 0."""
    longest = max(sum(len(branch.ids) for branch in row) for row in rows) + len(prefix)
    ids, positions, owner = (np.zeros((len(rows), longest), dtype=np.int64) for _ in range(3))
    weights = np.zeros((len(rows), longest), dtype=np.float32)
    owner[:] = -1
    for r, row in enumerate(rows):
        ids[r, : len(prefix)] = prefix
        positions[r, : len(prefix)] = np.arange(len(prefix))
        owner[r, : len(prefix)] = 0
        at = len(prefix)
        for number, branch in enumerate(row, start=1):
            span = slice(at, at + len(branch.ids))
            ids[r, span], weights[r, span], owner[r, span] = branch.ids, branch.weights, number
            positions[r, span] = len(prefix) + np.arange(len(branch.ids))
            at = span.stop
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(weights),
        _mask(owner),
    )


def _mask(owner: npt.NDArray[np.int64]) -> Tensor:
    length = owner.shape[1]
    seen = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
    seen &= np.tril(np.ones((length, length), dtype=bool))
    seen |= np.eye(length, dtype=bool)
    return torch.where(torch.from_numpy(seen), 0.0, -1e9)[:, None]
