"""Images and questions as a model's inputs. Knows processors; knows no weights and no method.

A prompt is kept per sample and put into batches when needed, so that any rows can share a batch:
token tensors are padded on the left, image tensors joined (and their tiles padded on the right).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor

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
_IDS = frozenset({"input_ids", "qformer_input_ids"})


class PromptFormat:
    """Lays out an image and a question as the model was trained to see them.

    With a chat template the question is the user's turn; without one the image's marker and the
    question stand alone. The begin token occurs exactly once where the tokeniser has one, whether
    or not the template writes it (LLaVA-1.5's does not); the end token is the model's own to write.

    Args:
        processor: the image processor and tokeniser in one.
        template: a chat template that replaces the processor's own.
    """

    def __init__(self, processor: Any, *, template: str | None = None) -> None:  # noqa: ANN401 - a class per architecture
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self._template = template or getattr(processor, "chat_template", None)
        first = self.tokenizer("a")["input_ids"][:1]
        self._begin = self.tokenizer.bos_token or ""
        self._tokenizer_begins = bool(first) and first[0] == self.tokenizer.bos_token_id

    def render(self, question: str) -> str:
        """The prompt's text, the image's marker and the begin token included.

        Raises:
            ValueError: the question holds the image's marker.
        """
        marker = str(getattr(self.processor, "image_token", None) or "")
        if marker and marker in question:
            raise ValueError(
                f"prompt {question!r} holds {marker}, which stands for the image: remove it"
            )
        if self._template is None:
            return self._begun(question if self._adds_marker_itself() else marker + question)
        turn = [{"type": "image"}, {"type": "text", "text": question}]
        rendered = self.processor.apply_chat_template(
            [{"role": "user", "content": turn}],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
        )
        return self._begun(str(rendered))

    def encode(self, image: PIL.Image.Image, question: str) -> Prompt:
        """One sample's inputs."""
        inputs = self.processor(
            images=image,
            text=self.render(question),
            add_special_tokens=False,
            return_tensors="pt",
        )
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}

    def _begun(self, rendered: str) -> str:
        if not self._begin:
            return rendered
        bare = rendered
        while bare.startswith(self._begin):
            bare = bare.removeprefix(self._begin)
        return self._begin + bare if self._tokenizer_begins or bare != rendered else bare

    def _adds_marker_itself(self) -> bool:
        return hasattr(self.processor, "qformer_tokenizer")

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
            fill = pad_id if name in _IDS else 0
            joined = _joined(values, fill=fill, left=name not in _ON_THE_RIGHT)
        elif name == "pixel_values" and values[0].dim() == 5:
            joined = _joined(values, fill=0, left=False)
        else:
            joined = torch.cat(values)
        batch[name] = joined.to(device)
    return batch


def _joined(values: Sequence[Tensor], *, fill: int, left: bool) -> Tensor:
    """Rows of one second dimension, filled up on one side."""
    length = max(value.shape[1] for value in values)
    rows: list[Tensor] = []
    for value in values:
        missing = value.new_full((value.shape[0], length - value.shape[1], *value.shape[2:]), fill)
        rows.append(torch.cat([missing, value] if left else [value, missing], dim=1))
    return torch.cat(rows)
