"""How a prompt, an image and an answer become one sequence of tokens. Knows ids; no model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch

from sightline_core.families import Family
from sightline_service.models.protocols import TextRefusedError
from sightline_service.models.tokenizing import Tokenizer

_TYPES = ("token_type_ids", "mm_token_type_ids")
_NOT_OF_THE_IMAGE = ("input_ids", "attention_mask", "labels", *_TYPES)


@dataclass(frozen=True, slots=True)
class Opening:
    """A prompt and its image, up to where answers begin: many answers may share it.

    Attributes:
        text: what the tokeniser saw, which decides how an answer's first word is spelled.
        text_ids: the tokens of `text` alone, where the image is still one marker.
        ids: its tokens, the image's included.
        images: the image's tensors, by the names that the model knows them by.
        types: the type of each token, by the names that the model may know.
        is_shared: its answers share the forward pass over it.
    """

    text: str
    text_ids: tuple[int, ...]
    ids: tuple[int, ...]
    images: Mapping[str, torch.Tensor]
    types: Mapping[str, tuple[int, ...]]
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One sequence to score.

    Attributes:
        opening: what comes before the answer; the same object for all that share it.
        answer: the answer's tokens, at least one.
        offsets: half-open code point offsets of the answer's tokens in the answer.
        types: the type of each token, prompt and answer, by the names that the model may know.
    """

    opening: Opening
    answer: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    types: Mapping[str, tuple[int, ...]]

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and answer."""
        return (*self.opening.ids, *self.answer)

    @property
    def start(self) -> int:
        """The place of the answer's first token, at least 1."""
        return len(self.opening.ids)


class DialogueFormat:
    """Lays out a dialogue as the model itself was trained to see it.

    With a chat template, the prompt is the user's turn. Without one the prompt is used as it is,
    after the image's marker unless the prompt already has it. A text without prompt and image
    stands alone after the begin token. The begin token occurs once, whether the template or the
    tokeniser gives it, and no end token is scored.

    The answer's tokens are those that the model would generate: the prompt's tokens are kept as
    they are, and prompt and answer are tokenised together, so that the first word gets its leading
    space ("ASSISTANT:" then "▁A"). Where the prompt ends in plain text without a space, as there,
    a space goes between; where the two would merge at the seam, the answer is tokenised alone.

    Args:
        tokenizer: the tokeniser, limited to the model's context.
        processor: the image processor and tokeniser in one, None for a text-only model.
        chat_template: whether there is one.
        family: how the model's family wants its prompts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        processor: Any | None,  # noqa: ANN401 - a class per architecture
        *,
        chat_template: bool,
        family: Family | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._chat_template = chat_template
        self._family = family or Family()
        inner = tokenizer.inner
        first = inner("a", verbose=False)["input_ids"][:1]
        self._begin: tuple[int, ...] = tuple(first) if first == [inner.bos_token_id] else ()
        self._image_token = None if processor is None else str(processor.image_token)

    def lay_out(self, image: PIL.Image.Image | None, prompt: str | None, text: str) -> Dialogue:
        """Returns the sequence for one answer alone; raises what `open` and `answer` raise."""
        return self.answer(self.open(image, prompt), text)

    def open(self, image: PIL.Image.Image | None, prompt: str | None) -> Opening:
        """Returns what comes before the answers.

        Raises:
            TextRefusedError: the prompt contains the image's marker or exceeds the context of the
                model's Q-Former, or there is nothing to start from.
        """
        own = 1 if image is not None and not self._chat_template and self._family.marked else 0
        self._refuse_markers(prompt or "", own)
        rendered = self._render(image, prompt)
        ids, images, types = self._prompt_tokens(image, rendered)
        if not ids:
            raise TextRefusedError("the model has no begin token: give a prompt to start from")
        text = rendered + self._family.ending
        text_ids = self._tokenizer.spans(text)[0] if text else ()
        return Opening(text, text_ids, ids, images, types)

    def answer(self, opening: Opening, text: str) -> Dialogue:
        """Returns the sequence of `opening` and one answer.

        Raises:
            TextRefusedError: the text contains the image's marker, or no token, or both together
                exceed the model's context.
        """
        self._refuse_markers(text, 0)
        before = opening.ids
        ids, offsets = self._answer_tokens(opening, text)
        if not ids:
            raise TextRefusedError("the text holds no token of the model: give at least one word")
        limit = self._tokenizer.max_tokens
        if len(before) + len(ids) > limit:
            raise TextRefusedError(
                f"prompt and text have {len(before)} + {len(ids)} tokens, more than the model's "
                f"context of {limit} (max_position_embeddings): shorten the text"
            )
        kind = self._family.answer_type
        of_answer = {"token_type_ids": kind, "mm_token_type_ids": 0}  # nosec B105 # a number
        whole = {name: (*of, *[of_answer[name]] * len(ids)) for name, of in opening.types.items()}
        return Dialogue(opening, ids, offsets, whole)

    def _refuse_markers(self, text: str, own: int) -> None:
        """A marker without its image would fail the whole batch in the forward pass."""
        marker = self._image_token
        if marker is not None and text.count(marker) > own:
            raise TextRefusedError(f"{marker} stands for the image: remove it from prompt and text")

    def _render(self, image: PIL.Image.Image | None, prompt: str | None) -> str:
        if prompt is None and image is None:
            return ""
        if self._chat_template:
            return self._render_template(image, prompt)
        marker = self._image_token or ""
        if image is None or not self._family.marked or marker in (prompt or ""):
            return prompt or ""
        return marker + (prompt or "")

    def _render_template(self, image: PIL.Image.Image | None, prompt: str | None) -> str:
        if self._processor is None:
            turn: object = prompt
            renderer = self._tokenizer.inner
        else:
            parts = [{"type": "image"}] if image is not None else []
            turn = [*parts, *([{"type": "text", "text": prompt}] if prompt is not None else [])]
            renderer = self._processor
        messages = [{"role": "user", "content": turn}]
        return str(
            renderer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        )

    def _prompt_tokens(
        self, image: PIL.Image.Image | None, rendered: str
    ) -> tuple[tuple[int, ...], Mapping[str, torch.Tensor], Mapping[str, tuple[int, ...]]]:
        if image is None:
            ids = self._tokenizer.spans(rendered)[0] if rendered else ()
            return self._begun(ids) or self._context_without_begin(), {}, {}
        inputs = dict(self._call_processor(image, rendered))
        self._check_reader(len(inputs.get("qformer_input_ids", [[]])[0]))
        ids = tuple(inputs["input_ids"][0].tolist())
        begun = ids if self._family.own_layout else self._begun(ids)
        added = (0,) * (len(begun) - len(ids))
        types = {name: (*added, *inputs[name][0].tolist()) for name in _TYPES if name in inputs}
        images = {name: of for name, of in inputs.items() if name not in _NOT_OF_THE_IMAGE}
        return begun, images, types

    def _check_reader(self, n_tokens: int) -> None:
        reader = getattr(self._processor, "qformer_tokenizer", None)
        if reader is not None and n_tokens > reader.model_max_length:
            raise TextRefusedError(
                f"the prompt has {n_tokens} tokens for the Q-Former, more than its "
                f"{reader.model_max_length}: shorten it"
            )

    def _begun(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids if ids[:1] == self._begin else (*self._begin, *ids)

    def _call_processor(self, image: PIL.Image.Image, rendered: str) -> Any:  # noqa: ANN401 - transformers is untyped
        assert self._processor is not None
        with self._tokenizer.lock:
            return self._processor(
                images=image,
                text=rendered,
                add_special_tokens=self._family.own_layout,
                return_tensors="pt",
            )

    def _context_without_begin(self) -> tuple[int, ...]:
        """What a document starts after, where the tokeniser adds no begin token (GPT-2, Qwen)."""
        inner = self._tokenizer.inner
        token = inner.bos_token_id if inner.bos_token_id is not None else inner.eos_token_id
        return () if token is None else (token,)

    def _answer_tokens(
        self, opening: Opening, text: str
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        rendered, before = opening.text, opening.text_ids
        gap = self._gap(rendered, before, text)
        lead = len(rendered) + len(gap)
        ids, offsets = self._tokenizer.spans(rendered + gap + text)
        kept = len(before)
        if ids[:kept] != before:
            ids, offsets = self._tokenizer.spans(gap + text)
            lead, kept = len(gap), 0
        return ids[kept:], tuple(
            (max(start - lead, 0), max(end - lead, 0)) for start, end in offsets[kept:]
        )

    def _gap(self, rendered: str, before: tuple[int, ...], text: str) -> str:
        joined = not rendered or rendered[-1].isspace() or text[:1].isspace()
        special = bool(before) and before[-1] in self._tokenizer.inner.added_tokens_decoder
        return "" if joined or special else " "
