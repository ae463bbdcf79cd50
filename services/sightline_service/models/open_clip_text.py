"""open_clip's three tokenisers, with an honest word on truncation. Knows ids; knows no model."""

import threading
from typing import Any

import torch
from open_clip.tokenizer import (
    HFTokenizer,
    SigLipTokenizer,
    SimpleTokenizer,
    basic_clean,
    canonicalize_text,
)

from sightline_service.models.reference import ModelLoadError
from sightline_service.models.tokenizing import Tokenizer, Tokens

_LONGEST_WORD = 2048
_CACHED_WORDS = 10_000
_CLIPS_SPECIAL_TOKENS = 3


class OpenClipText:
    """Gives a text the ids that open_clip's own tokeniser gives it, always `context` many.

    open_clip cuts long texts without a word. Here the uncut length is measured for each kind of
    tokeniser, and a tokeniser of unknown kind is refused.

    Args:
        tokenizer: what `open_clip.get_tokenizer` returned.

    Raises:
        ModelLoadError: the tokeniser drops words at random, or its kind is unknown.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - open_clip is untyped
        self.context = int(tokenizer.context_length)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        if isinstance(tokenizer, SimpleTokenizer):
            if tokenizer.reduction_fn is not None:
                raise ModelLoadError(
                    "the tokenizer drops words of long texts at random (reduction_mask): remove "
                    "reduction_mask from tokenizer_kwargs in open_clip_config.json"
                )
            self._encode = self._encode_simple
        elif isinstance(tokenizer, HFTokenizer | SigLipTokenizer):
            self._encode = self._encode_hf
        else:
            raise ModelLoadError(
                f"open_clip tokenizer {type(tokenizer).__name__} is unknown: use a model with an "
                "open_clip or transformers tokenizer"
            )

    def encode(self, text: str) -> Tokens:
        """Returns `context` ids, padded, the end token kept where the text was cut."""
        return self._encode(text)

    def definition(self) -> dict[str, object]:
        """Returns what decides the ids."""
        tokenizer = self._tokenizer
        clean = getattr(tokenizer, "clean_fn", None)
        inner = getattr(tokenizer, "tokenizer", None)
        return {
            "kind": type(tokenizer).__name__,
            "context": self.context,
            "clean": getattr(clean, "__name__", None),
            "mode": getattr(tokenizer, "tokenizer_mode", None),
            "strip_sep_token": getattr(tokenizer, "strip_sep_token", None),
            "inner": None if inner is None else Tokenizer(inner, max_tokens=0).definition(),
        }

    def _encode_simple(self, text: str) -> Tokens:
        """Stops at the context's end, where `SimpleTokenizer` spends seconds on one endless word.

        Its byte pair encoding takes quadratic time, and remembers every word for good.
        """
        tokenizer = self._tokenizer
        room = self.context - 2
        ids: list[int] = []
        cut = False
        for match in tokenizer.pat.finditer(tokenizer.clean_fn(text)):
            word = match.group()
            cut = cut or len(word) > _LONGEST_WORD
            spelled = "".join(
                tokenizer.byte_encoder[byte] for byte in word[:_LONGEST_WORD].encode("utf-8")
            )
            ids.extend(tokenizer.encoder[piece] for piece in tokenizer.bpe(spelled).split(" "))
            if len(ids) > room:
                break
        if len(tokenizer.cache) > _CACHED_WORDS:
            specials = {tokenizer.decoder[token] for token in tokenizer.all_special_ids}
            tokenizer.cache = {token: token for token in specials}
        framed = [tokenizer.sot_token_id, *ids[:room], tokenizer.eot_token_id]
        padding = [0] * (self.context - len(framed))
        return Tokens((*framed, *padding), truncated=cut or len(ids) > room)

    def _encode_hf(self, text: str) -> Tokens:
        """The lock keeps other threads from the truncation state of a fast tokeniser."""
        with self._lock:
            length = self._uncut_length(text)
            ids: torch.Tensor = self._tokenizer(text)[0]
        return Tokens(tuple(ids.tolist()), truncated=length > self.context)

    def _uncut_length(self, text: str) -> int:
        tokenizer = self._tokenizer
        if isinstance(tokenizer, SigLipTokenizer):
            cleaned = canonicalize_text(basic_clean(text))
        else:
            cleaned = tokenizer.clean_fn(text)
        clips = getattr(tokenizer, "tokenizer_mode", None) == "clips"
        ids = tokenizer.tokenizer(cleaned, add_special_tokens=not clips, verbose=False)["input_ids"]
        return len(ids) + (_CLIPS_SPECIAL_TOKENS if clips else 0)
