"""open_clip's causal text towers, run on the tokens that count. Knows open_clip and torch.

Such a tower reads a text from left to right and keeps the state at its end token: what follows,
the padding up to the context length, is never looked at. Leaving it out changes no score.
"""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import TextTransformer, text_global_pool

_WORTH_A_FORWARD = 512
"""Padding tokens saved from which a batch is better run in two pieces."""


class CausalText:
    """The text tower of an open_clip model.

    Args:
        tower: what holds the tower's layers: a `CLIP` or a `TextTransformer`.
        pool: "argmax" or "eos": how the end token is found.
        end: the end token's id, which "eos" looks for.
    """

    def __init__(self, tower: Any, *, pool: str, end: int | None) -> None:  # noqa: ANN401 - open_clip is untyped
        self._tower = tower
        self._pool = pool
        self._end = end

    @classmethod
    def of(cls, model: Any) -> "CausalText | None":  # noqa: ANN401 - open_clip is untyped
        """Returns the tower of `model`, or None of one that sees more than the tokens before."""
        if isinstance(model, open_clip.CLIP):
            whole: Any = model
            tower, pool, end = whole, whole.text_pool_type, getattr(whole, "text_eos_id", None)
        else:
            tower = getattr(model, "text", None)
            if not isinstance(tower, TextTransformer) or tower.cls_emb is not None:
                return None
            pool, end = tower.pool_type, tower.eos_id
        if tower.attn_mask is None or pool not in ("argmax", "eos"):
            return None
        if pool == "eos" and not end:  # 0 is also the padding, which would count
            return None
        return cls(tower, pool=pool, end=end)

    def trimmed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Returns the ids up to the one at which the tower's state is kept."""
        end = max(ids) if self._pool == "argmax" else self._end
        return tuple(ids[: ids.index(end) + 1]) if end in ids else tuple(ids)

    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns features [n, d] of ids [n, length], as `encode_text` does for a full length."""
        tower = self._tower
        dtype = tower.transformer.get_cast_dtype()
        length = ids.shape[1]
        x = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        ends = text_global_pool(x, ids, self._pool, eos_token_id=self._end)
        features: torch.Tensor = tower.ln_final(ends)
        projection = tower.text_projection
        if isinstance(projection, torch.nn.Linear):
            features = projection(features)
        elif projection is not None:
            features = features @ projection
        return features


def pieces(lengths: Sequence[int]) -> list[list[int]]:
    """Splits a batch where that saves more padding than another forward pass costs.

    Args:
        lengths: tokens of each text.

    Returns:
        Groups of places in `lengths`, each sorted by length; together every place once.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    groups: list[list[int]] = []
    while order:
        longest = lengths[order[-1]]
        saved = [(longest - lengths[place]) * (n + 1) for n, place in enumerate(order)]
        best = max(range(len(order)), key=saved.__getitem__)
        cut = best + 1 if saved[best] > _WORTH_A_FORWARD else 0
        groups.append(order[cut:])
        order = order[:cut]
    return groups
