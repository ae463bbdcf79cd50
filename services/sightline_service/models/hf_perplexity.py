"""transformers' models as perplexity models, by teacher forcing. Knows transformers; no HTTP."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import PIL.Image
import transformers

from sightline_core.families import family_of
from sightline_proto import ModelInfo
from sightline_service.models.architectures import of_another_kind
from sightline_service.models.checkpoint import Checkpoint, loading, open_checkpoint
from sightline_service.models.dialogue import Dialogue, DialogueFormat
from sightline_service.models.placement import Placement
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
from sightline_service.models.teacher_forcing import TeacherForcing
from sightline_service.models.tensors import n_weights
from sightline_service.models.tokenizing import Tokenizer

_NO_LIMIT = 2**31
_SIZE = (64, 64)


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
        self.n_weights = n_weights(model)
        self.takes_image = takes_image
        self.needs_image = needs_image
        self._model = model
        self._dialogue = dialogue
        self._forcing = TeacherForcing(model, placement)

    def prepare(self, image: PIL.Image.Image | None, prompt: str | None, text: str) -> Prepared:
        """Lays out one answer; raises as `prepare_each` does."""
        [prepared] = self.prepare_each(image, prompt, [text])
        return prepared

    def prepare_each(
        self, image: PIL.Image.Image | None, prompt: str | None, texts: Sequence[str]
    ) -> list[Prepared]:
        """Lays out answers; only inputs whose image tensors have equal shapes share a batch.

        Where answers share the forward pass over image and prompt, they share its cost, too.

        Raises:
            TextRefusedError: too long, no token, the image's marker in it, or an image for a
                model that takes none.
        """
        if image is not None and not self.takes_image:
            raise TextRefusedError("the model reads text only: leave out the image")
        opening = self._dialogue.open(image, prompt)
        opening = replace(opening, is_shared=self._forcing.gains(opening, len(texts)))
        shapes = tuple((name, tuple(value.shape)) for name, value in opening.images.items())
        dialogues = [self._dialogue.answer(opening, text) for text in texts]
        sharers = len(texts) if opening.is_shared else 1
        share = ceil(len(opening.ids) / sharers)
        return [
            Prepared(data=each, cost=share + len(each.answer), group=shapes) for each in dialogues
        ]

    def score(self, batch: Sequence[Prepared]) -> list[TokenScores]:
        """Returns the log-probabilities of the answers' tokens, in float32 arithmetic."""
        dialogues: list[Dialogue] = [prepared.data for prepared in batch]
        found = self._forcing.log_probs(dialogues)
        return [
            TokenScores(dialogue.offsets, log_probs)
            for dialogue, log_probs in zip(dialogues, found, strict=True)
        ]

    def probe(self) -> None:
        """Scores a few answers, to find out how this model can be asked; the loader calls it.

        A processor and a model that disagree on the number of image tokens fail here, not later.
        """
        images: list[PIL.Image.Image | None] = [None, None]
        if self.takes_image:
            bright = PIL.Image.linear_gradient("L").resize(_SIZE).convert("RGB")
            images = [PIL.Image.new("RGB", _SIZE), bright]
        prepared = [
            *self.prepare_each(images[0], "a", ["a", "a b c"]),
            *self.prepare_each(images[1], "a", ["b a"]),
        ]
        self._forcing.try_sharing([each.data for each in prepared])


def load_hf_perplexity(reference: ModelReference, placement: Placement) -> HfPerplexity:
    """Loads a LLaVA-type model or a text-only causal language model from a folder or the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    checkpoint = open_checkpoint(reference)
    with loading(reference, checkpoint):
        config = load_config(checkpoint)
        if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            served = _load_image_model(reference, checkpoint, config, placement)
        elif type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            served = _load_text_model(reference, checkpoint, config, placement)
        else:
            raise of_another_kind(checkpoint, "perplexity", config.model_type)
        served.probe()
        return served


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
    return HfPerplexity(
        model,
        dialogue,
        takes_image=True,
        needs_image=family.needs_image,
        placement=placement,
        info=info,
    )


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
