"""open_clip's three tokenisers, with an honest word on truncation. Knows ids; knows no model."""

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.tokenizer import (
    HFTokenizer,
    SigLipTokenizer,
    SimpleTokenizer,
    basic_clean,
    canonicalize_text,
    get_clean_fn,
    whitespace_clean,
)

from sightline_service.models.reference import ModelLoadError
from sightline_service.models.tokenizing import Tokenizer, Tokens

_LONGEST_WORD = 2048
_CACHED_WORDS = 10_000
_LONGEST_CACHED = 32
_CLIPS_SPECIAL_TOKENS = 3
_ORDINARY_SPECIAL_TOKENS = 2

_BEYOND_MENDING = re.compile(r"[\t\n -%'-~]*")
"""Texts in which neither ftfy nor `html.unescape` finds anything to change.

ftfy's rules concern characters beyond ASCII, HTML entities (which begin with `&`), carriage
returns and control characters.
"""
_REST_OF_CLEANING: dict[Callable[[str], str], Callable[[str], str]] = {
    get_clean_fn("lower"): lambda text: whitespace_clean(text).lower(),
    get_clean_fn("whitespace"): whitespace_clean,
    get_clean_fn("canonicalize"): canonicalize_text,
}
"""What open_clip's ways of cleaning do after mending a text, which takes most of their time."""


class OpenClipText:
    """Gives a text the ids that open_clip's own tokeniser gives it.

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
            self._clean = quicker(tokenizer.clean_fn)
            self._known: dict[str, tuple[int, ...]] = {}
            # A special token of the user's own may hold a space: then a text is one part.
            ordinary = len(tokenizer.all_special_ids) == _ORDINARY_SPECIAL_TOKENS
            self._separator = " " if ordinary else "\n"
        elif isinstance(tokenizer, HFTokenizer | SigLipTokenizer):
            self._encode = self._encode_hf
        else:
            raise ModelLoadError(
                f"open_clip tokenizer {type(tokenizer).__name__} is unknown: use a model with an "
                "open_clip or transformers tokenizer"
            )

    def encode(self, text: str) -> Tokens:
        """Returns at most `context` ids, the end token kept where the text was cut."""
        return self._encode(text)

    def padded(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Returns `context` ids, as open_clip's tokeniser gives them."""
        return (*ids, *[0] * (self.context - len(ids)))

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
        """Part by part, of which most are known: no token spans a space.

        Stops at the context's end, where `SimpleTokenizer` spends seconds on one endless word.
        """
        room = self.context - 2
        ids: list[int] = []
        cut = False
        for part in self._clean(text).split(self._separator):
            known = self._known.get(part)
            if known is None:
                known, has_endless_word = self._spelled(part, room)
                cut = cut or has_endless_word
            ids += known
            if len(ids) > room:
                cut = True
                break
        tokenizer = self._tokenizer
        return Tokens((tokenizer.sot_token_id, *ids[:room], tokenizer.eot_token_id), truncated=cut)

    def _spelled(self, part: str, room: int) -> tuple[tuple[int, ...], bool]:
        """Returns the part's ids, as far as there is room, and whether a word of it was cut.

        Byte pair encoding takes quadratic time, and `SimpleTokenizer` remembers every word for
        good.
        """
        tokenizer = self._tokenizer
        ids: list[int] = []
        cut = False
        for match in tokenizer.pat.finditer(part):
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
        if len(part) <= _LONGEST_CACHED:
            if len(self._known) >= _CACHED_WORDS:
                self._known.clear()
            self._known[part] = tuple(ids)
        return tuple(ids), cut

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


def quicker(clean: Callable[[str], str]) -> Callable[[str], str]:
    """Returns what gives each text the result of `clean`, one of open_clip's ways of cleaning.

    Mending, 30 us a text, is left out for plain ASCII, in which there is nothing to mend.
    """
    rest = _REST_OF_CLEANING.get(clean, clean)

    def cleaned(text: str) -> str:
        return rest(text) if _BEYOND_MENDING.fullmatch(text) else clean(text)

    return cleaned
