"""A transformers tokeniser that many threads may use. Knows token ids and lengths; no model."""

import json
import threading
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of one text, special tokens included, and whether the text was cut."""

    ids: tuple[int, ...]
    truncated: bool


class Tokenizer:
    """Cuts texts at a model's context length and says so.

    A fast tokeniser keeps truncation and padding as state, and fails where two threads set it at
    once: every call here holds a lock.

    Args:
        tokenizer: a transformers tokeniser.
        max_tokens: the model's context length, special tokens included.
        pad: fill up to `max_tokens`, for models that were trained so.
    """

    def __init__(self, tokenizer: Any, *, max_tokens: int, pad: bool = False) -> None:  # noqa: ANN401 - transformers is untyped
        self.inner = tokenizer
        self.max_tokens = max_tokens
        self.pad = pad
        self.lock = threading.Lock()

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch; masked, so any id does where the tokeniser has none."""
        return int(self.inner.pad_token_id or 0)

    def encode(self, text: str) -> Tokens:
        """Returns the text's ids, at most `max_tokens`, with the end token kept."""
        with self.lock:
            ids = self.inner(text, verbose=False)["input_ids"]
            truncated = len(ids) > self.max_tokens
            if truncated or self.pad:
                ids = self.inner(
                    text,
                    truncation=True,
                    max_length=self.max_tokens,
                    padding="max_length" if self.pad else False,
                )["input_ids"]
        return Tokens(tuple(ids), truncated)

    def spans(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Returns the text's ids without special tokens, and their half-open code point offsets."""
        with self.lock:
            encoding = self.inner(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
        offsets = tuple((int(start), int(end)) for start, end in encoding["offset_mapping"])
        return tuple(encoding["input_ids"]), offsets

    def definition(self) -> dict[str, object]:
        """Returns what decides the ids: vocabulary, rules, context length and padding."""
        rules = self.inner.get_vocab()
        if self.inner.is_fast:
            rules = json.loads(self.inner.backend_tokenizer.to_str())
            for state in ("truncation", "padding"):
                rules.pop(state)
        kind = type(self.inner).__name__
        return {"kind": kind, "rules": rules, "max_tokens": self.max_tokens, "pad": self.pad}
