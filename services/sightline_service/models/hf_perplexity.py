"""transformers' models as perplexity models, by teacher forcing. Knows torch; knows no HTTP."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers

from sightline_core.families import family_of
from sightline_proto import ModelInfo
from sightline_service.models.architectures import of_another_kind
from sightline_service.models.checkpoint import Checkpoint, loading, open_checkpoint
from sightline_service.models.dialogue import Dialogue, DialogueFormat
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.pretrained import (
    load_config,
    load_model,
    load_processor,
    load_tokenizer,
    model_info,
    processor_definition,
)
from sightline_service.models.protocols import Prepared, TextRefusedError, TokenScores
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.tensors import right_padded
from sightline_service.models.tokenizing import Tokenizer

_NO_LIMIT = 2**31


class HfPerplexity:
    """Scores each token of an answer given the image, the prompt and the answer's earlier tokens.

    Args:
        model: the model, on its device.
        dialogue: how prompt and answer are laid out.
        takes_image: whether the model sees images.
        needs_image: whether it scores nothing without one.
        placement: device and arithmetic.
        info: its identity in replies.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a class per architecture
        dialogue: DialogueFormat,
        *,
        takes_image: bool,
        needs_image: bool = False,
        placement: Placement,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.takes_image = takes_image
        self.needs_image = needs_image
        self._model = model
        self._dialogue = dialogue
        self._placement = placement
        self._known = frozenset(inspect.signature(model.forward).parameters)

    def prepare(self, image: PIL.Image.Image | None, prompt: str | None, text: str) -> Prepared:
        """Lays out one answer; raises as `prepare_each` does."""
        [prepared] = self.prepare_each(image, prompt, [text])
        return prepared

    def prepare_each(
        self, image: PIL.Image.Image | None, prompt: str | None, texts: Sequence[str]
    ) -> list[Prepared]:
        """Lays out answers; only inputs whose image tensors have equal shapes share a batch.

        Raises:
            TextRefusedError: too long, no token, the image's marker in it, or an image for a
                model that takes none.
        """
        if image is not None and not self.takes_image:
            raise TextRefusedError("the model reads text only: leave out the image")
        opening = self._dialogue.open(image, prompt)
        shapes = tuple((name, tuple(value.shape)) for name, value in opening.images.items())
        dialogues = [self._dialogue.answer(opening, text) for text in texts]
        return [Prepared(data=each, cost=len(each.ids), group=shapes) for each in dialogues]

    def score(self, batch: Sequence[Prepared]) -> list[TokenScores]:
        """Returns the log-probabilities of the answers' tokens, in float32 arithmetic."""
        dialogues: list[Dialogue] = [prepared.data for prepared in batch]
        with forward_pass():
            ids, mask = right_padded([dialogue.ids for dialogue in dialogues], pad_id=0)
            first = min(dialogue.start for dialogue in dialogues) - 1
            options: dict[str, Any] = {}
            if "logits_to_keep" in self._known:
                # The vocabulary is wide: only the positions that predict answers get logits.
                options["logits_to_keep"] = torch.arange(first, ids.shape[1] - 1)
            else:
                first = 0
            logits = self._model(
                input_ids=ids.to(self._placement.device),
                attention_mask=mask.to(self._placement.device),
                use_cache=False,
                **self._images(dialogues),
                **self._types(dialogues),
                **options,
            ).logits
            return [
                _token_scores(dialogue, logits[row], first)
                for row, dialogue in enumerate(dialogues)
            ]

    def _images(self, dialogues: Sequence[Dialogue]) -> Mapping[str, torch.Tensor]:
        joined: dict[str, torch.Tensor] = {}
        for name in dialogues[0].images:
            value = torch.cat([dialogue.images[name] for dialogue in dialogues])
            dtype = self._placement.dtype if value.is_floating_point() else value.dtype
            joined[name] = value.to(self._placement.device, dtype)
        return joined

    def _types(self, dialogues: Sequence[Dialogue]) -> Mapping[str, torch.Tensor]:
        """What tells tokens of images, prompts and answers apart, where the model asks for it."""
        joined: dict[str, torch.Tensor] = {}
        for name in self._known.intersection(dialogues[0].types):
            rows = [dialogue.types[name] for dialogue in dialogues]
            joined[name] = right_padded(rows, pad_id=rows[0][-1])[0].to(self._placement.device)
        return joined


def _token_scores(dialogue: Dialogue, logits: torch.Tensor, first: int) -> TokenScores:
    """Reads one answer's scores off `logits` [positions, vocabulary], which start at `first`."""
    start, end = dialogue.start - 1 - first, len(dialogue.ids) - 1 - first
    log_probs = torch.log_softmax(logits[start:end].float(), dim=-1)
    answer = torch.tensor(dialogue.ids[dialogue.start :], device=logits.device)
    chosen = log_probs.gather(1, answer[:, None])[:, 0].cpu().numpy()
    return TokenScores(dialogue.offsets, chosen.astype(np.float64))


def load_hf_perplexity(reference: ModelReference, placement: Placement) -> HfPerplexity:
    """Loads a LLaVA-type model or a text-only causal language model from a folder or the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    checkpoint = open_checkpoint(reference)
    with loading(reference, checkpoint):
        config = load_config(checkpoint)
        if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return _load_image_model(reference, checkpoint, config, placement)
        if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            return _load_text_model(reference, checkpoint, config, placement)
        raise of_another_kind(checkpoint, "perplexity", config.model_type)


def _context(config: Any) -> int:  # noqa: ANN401 - a class per architecture
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return _NO_LIMIT if limit is None else int(limit)


def _load_image_model(
    reference: ModelReference,
    checkpoint: Checkpoint,
    config: Any,  # noqa: ANN401 - a class per architecture
    placement: Placement,
) -> HfPerplexity:
    if config.get_text_config(decoder=True).is_encoder_decoder or config.is_encoder_decoder:
        raise ModelLoadError(
            f"{checkpoint.folder} holds a {config.model_type} model with an encoder and a decoder, "
            "which is not served: use for example hf:llava-hf/llava-1.5-7b-hf"
        )
    processor = load_processor(checkpoint)
    tokenizer = Tokenizer(processor.tokenizer, max_tokens=_context(config))
    model = load_model(transformers.AutoModelForImageTextToText, checkpoint, placement)
    family = family_of(config.model_type)
    template = getattr(processor, "chat_template", None)
    info = model_info(
        reference,
        checkpoint,
        placement,
        image=processor_definition(processor.image_processor),
        text=tokenizer.definition(),
        template=template,
    )
    dialogue = DialogueFormat(tokenizer, processor, chat_template=bool(template), family=family)
    served = HfPerplexity(
        model,
        dialogue,
        takes_image=True,
        needs_image=family.needs_image,
        placement=placement,
        info=info,
    )
    # A processor and a model that disagree on the number of image tokens fail here, not later.
    served.score([served.prepare(PIL.Image.new("RGB", (64, 64)), "a", "a")])
    return served


def _load_text_model(
    reference: ModelReference,
    checkpoint: Checkpoint,
    config: Any,  # noqa: ANN401 - a class per architecture
    placement: Placement,
) -> HfPerplexity:
    tokenizer = Tokenizer(load_tokenizer(checkpoint, offsets=True), max_tokens=_context(config))
    model = load_model(transformers.AutoModelForCausalLM, checkpoint, placement)
    template = tokenizer.inner.chat_template
    info = model_info(
        reference, checkpoint, placement, text=tokenizer.definition(), template=template
    )
    dialogue = DialogueFormat(tokenizer, None, chat_template=bool(template))
    return HfPerplexity(model, dialogue, takes_image=False, placement=placement, info=info)
