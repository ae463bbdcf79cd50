"""Loads transformers' zero-shot detectors by architecture. Knows transformers; runs no model."""

import transformers

from sightline_service.models.architectures import DETECTORS, of_another_kind
from sightline_service.models.checkpoint import loading, open_checkpoint
from sightline_service.models.grounding_dino_detector import GroundingDinoDetector
from sightline_service.models.omdet_detector import OmDetDetector
from sightline_service.models.owl_detector import OwlDetector
from sightline_service.models.placement import Placement
from sightline_service.models.pretrained import (
    load_config,
    load_image_processor,
    load_model,
    load_tokenizer,
    model_info,
    processor_definition,
)
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.tokenizing import Tokenizer

_GROUNDING_DINO = frozenset({"grounding-dino", "mm-grounding-dino"})
_OMDET = frozenset({"omdet-turbo"})


def load_hf_detector(
    reference: ModelReference, placement: Placement
) -> OwlDetector | GroundingDinoDetector | OmDetDetector:
    """Loads OWL, Grounding DINO, MM-Grounding DINO or OmDet-Turbo from a folder or the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    checkpoint = open_checkpoint(reference)
    with loading(reference, checkpoint):
        config = load_config(checkpoint)
        if config.model_type not in DETECTORS:
            raise of_another_kind(checkpoint, "detector", config.model_type)
        image_processor = load_image_processor(checkpoint)
        if getattr(image_processor, "do_center_crop", False):
            raise ModelLoadError(
                f"{checkpoint.folder} crops images before it looks for objects, so that boxes at "
                "the border would be lost: set do_center_crop to false in its processor's JSON"
            )
        is_dino = config.model_type in _GROUNDING_DINO
        limit = config.text_config.max_position_embeddings
        tokenizer = Tokenizer(
            load_tokenizer(checkpoint, offsets=is_dino),
            max_tokens=min(limit, config.max_text_len) if is_dino else limit,
        )
        model = load_model(transformers.AutoModelForZeroShotObjectDetection, checkpoint, placement)
        info = model_info(
            reference,
            checkpoint,
            placement,
            image=processor_definition(image_processor),
            text=tokenizer.definition(),
        )
        parts = (model, image_processor, tokenizer)
        if is_dino:
            return GroundingDinoDetector(*parts, placement=placement, info=info)
        if config.model_type in _OMDET:
            return OmDetDetector(*parts, placement=placement, info=info)
        return OwlDetector(
            *parts,
            pads_to_square=config.model_type == "owlv2" and bool(image_processor.do_pad),
            placement=placement,
            info=info,
        )
