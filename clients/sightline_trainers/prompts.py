"""Images and questions as a model's inputs. Knows processors; knows no weights and no method.

A prompt is kept per sample and put into batches when needed, so that any rows can share a batch:
token tensors are padded on the left, image tensors joined (and their tiles padded on the right).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline_core.families import Family

Prompt = Mapping[str, Tensor]
"""One sample's inputs as its processor names them, each with a first dimension of samples."""

_PER_TOKEN = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "mm_token_type_ids",
        "qformer_input_ids",
        "qformer_attention_mask",
    }
)
_ON_THE_RIGHT = frozenset({"qformer_input_ids", "qformer_attention_mask"})
_TILED = {"pixel_values": 5, "pixel_attention_mask": 4}
"""Tensors with a dimension of tiles, by their number of dimensions."""
_NO_INPUT = frozenset({"labels"})
_MODALITIES = ("image", "video", "audio")


class PromptFormat:
    """Lays out an image and a question as the model was trained to see them.

    With a chat template the question is the user's turn; without one the image's marker and the
    question stand alone. The begin token occurs exactly once where the tokeniser has one, whether
    or not the template writes it (LLaVA-1.5's does not); the end token is the model's own to write.

    Args:
        processor: the image processor and tokeniser in one.
        template: a chat template that replaces the processor's own.
        family: how the model's family wants its prompts.
    """

    def __init__(
        self,
        processor: Any,  # noqa: ANN401 - a class per architecture
        *,
        template: str | None = None,
        family: Family | None = None,
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family = family or Family()
        self._template = template or getattr(processor, "chat_template", None)
        self._begin = self.tokenizer.bos_token or ""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        self._tokenizer_begins = whole[:1] == [self.tokenizer.bos_token_id]
        self._tokenizer_only_begins = whole == [self.tokenizer.bos_token_id, *bare]

    def render(self, question: str) -> str:
        """The prompt's text as the processor gets it, with the image's marker and the begin token
        unless the processor writes them itself.

        Raises:
            ValueError: the question holds the image's marker.
        """
        return self._begun(self._rendered(question))

    def encode(self, image: PIL.Image.Image, question: str) -> Prompt:
        """One sample's inputs.

        Raises:
            ValueError: the question holds the image's marker, or is too long for a Q-Former.
        """
        rendered = self._rendered(question)
        # where tokenisers begin by themselves they may mark the first word as such
        by_tokenizer = self._tokenizer_only_begins and not rendered.startswith(self._begin)
        specials = self.family.own_layout or by_tokenizer
        inputs = self.processor(
            images=image,
            text=rendered if specials else self._begun(rendered),
            add_special_tokens=specials,
            return_tensors="pt",
        )
        self._check_reader(len(inputs.get("qformer_input_ids", [[]])[0]))
        return {
            name: value
            for name, value in inputs.items()
            if isinstance(value, Tensor) and name not in _NO_INPUT
        }

    def _check_reader(self, n_tokens: int) -> None:
        reader = getattr(self.processor, "qformer_tokenizer", None)
        if reader is not None and n_tokens > reader.model_max_length:
            raise ValueError(
                f"the prompt has {n_tokens} tokens for the Q-Former, more than its "
                f"{reader.model_max_length}: shorten it"
            )

    def _rendered(self, question: str) -> str:
        marker = str(getattr(self.processor, "image_token", None) or "")
        if marker and marker in question:
            raise ValueError(
                f"prompt {question!r} holds {marker}, which stands for the image: remove it"
            )
        if self._template is None:
            return marker + question if self.family.marked else question
        turn = [{"type": "image"}, {"type": "text", "text": question}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": turn}],
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
            )
        )

    def _begun(self, rendered: str) -> str:
        if not self._begin or self.family.own_layout:
            return rendered
        bare = rendered
        while bare.startswith(self._begin):
            bare = bare.removeprefix(self._begin)
        return self._begin + bare if self._tokenizer_begins or bare != rendered else bare

    @property
    def placeholder_ids(self) -> frozenset[int]:
        """The tokens that stand for an image, a video or a sound, or enclose one."""
        names = [f"{each}_token_id{ending}" for each in _MODALITIES for ending in ("", "s")]
        found = [getattr(self.processor, name, None) for name in names]
        ids = [each for one in found for each in (one if isinstance(one, list) else [one])]
        return frozenset(each for each in ids if isinstance(each, int))

    @property
    def pad_id(self) -> int:
        """What fills up a row; the end token where the tokeniser has no other."""
        tokenizer = self.tokenizer
        return int(
            tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )

    def decode(self, ids: list[int]) -> str:
        """The text of sampled ids, without special tokens."""
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


def collate(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """The inputs of a batch: L is the longest prompt, shorter ones are padded on the left."""
    batch: dict[str, Tensor] = {}
    for name in prompts[0]:
        values = [prompt[name] for prompt in prompts]
        if name in _PER_TOKEN:
            # the Q-Former has a vocabulary of its own, in which 0 fills up
            fill = pad_id if name == "input_ids" else 0
            joined = _joined(values, fill=fill, left=name not in _ON_THE_RIGHT)
        elif _TILED.get(name) == values[0].dim():
            joined = _joined(values, fill=0, left=False)
        else:
            joined = torch.cat(values)
        batch[name] = joined.to(device)
    return batch


def continued(
    inputs: Mapping[str, Tensor], ids: Tensor, mask: Tensor, *, answer_type: int
) -> dict[str, Tensor]:
    """The inputs with (the beginning of) an answer after the prompt.

    Args:
        inputs: of B prompts.
        ids: the answers, (B, T), padded on the right.
        mask: 1 on their tokens, (B, T).
        answer_type: `token_type_ids` of an answer's tokens.
    """
    more = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.full_like(ids, answer_type),
        "mm_token_type_ids": torch.zeros_like(ids),
    }
    grown = {name: torch.cat([inputs[name], more[name]], 1) for name in more if name in inputs}
    return {**inputs, **grown}


def _joined(values: Sequence[Tensor], *, fill: int, left: bool) -> Tensor:
    """Rows of one second dimension, filled up on one side."""
    length = max(value.shape[1] for value in values)
    rows: list[Tensor] = []
    for value in values:
        missing = length - value.shape[1]
        sides = (missing, 0) if left else (0, missing)
        rows.append(pad(value, [0, 0] * (value.dim() - 2) + list(sides), value=fill))
    return torch.cat(rows)
