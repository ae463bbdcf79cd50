"""Original Grounding DINO checkpoints through groundingdino-py. Knows that package and torch."""

import importlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from sightline_proto import ModelInfo
from sightline_service.models.checkpoint import (
    Checkpoint,
    check_safetensors,
    check_torch_file,
    loading,
    open_checkpoint,
)
from sightline_service.models.grounding_dino_detector import GroundingDinoDetector
from sightline_service.models.original_config import (
    missing_package,
    original_files,
    read_original_config,
)
from sightline_service.models.placement import Placement
from sightline_service.models.pretrained import load_config, load_tokenizer, processor_definition
from sightline_service.models.provenance import preprocess_hash, weights_revision
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.tokenizing import Tokenizer

_MAX_TOKENS = 256
_TRAINING_WRAPPER = "module."
_COMPUTED = ("bert.embeddings.position_ids", "relative_position_index")
"""Buffers that older libraries wrote into checkpoints, and newer ones compute."""
_UNREAD = "bert.pooler."


class TextEncoder(transformers.BertModel):  # type: ignore[no-untyped-call]  # unannotated
    """A BERT that offers what groundingdino-py expects of transformers 4, in transformers 5.

    The package's `BertModelWarper` takes these methods at construction; it is then replaced by
    this class, which computes the same from the same tensors, under the same names.
    """

    def get_extended_attention_mask(self, mask: torch.Tensor, *_: object) -> torch.Tensor:
        """Returns a mask [n, tokens, tokens] with an axis for the heads."""
        return mask[:, None]

    invert_attention_mask = get_head_mask = get_extended_attention_mask

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - called by keyword only
        self,
        *,
        attention_mask: torch.Tensor,
        **inputs: Any,  # noqa: ANN401 - transformers' own
    ) -> Any:  # noqa: ANN401 - transformers' own
        """Encodes tokens under a mask [n, tokens, tokens] that keeps phrases apart."""
        mask = self.get_extended_attention_mask(attention_mask)
        return super().forward(attention_mask=mask, **inputs)


class _Adapted:
    """Calls the original model as transformers' Grounding DINO is called."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - the package is untyped
        self._model = model
        model.tokenizer = _as_tokenized

    def __call__(
        self, *, pixel_values: torch.Tensor, input_ids: torch.Tensor, **masks: torch.Tensor
    ) -> SimpleNamespace:
        """Images of a batch are of one size, so that their padding mask says nothing."""
        texts = {"input_ids": input_ids, **masks}
        texts.pop("pixel_mask", None)
        outputs = self._model(pixel_values, captions=transformers.BatchEncoding(texts))
        return SimpleNamespace(logits=outputs["pred_logits"], pred_boxes=outputs["pred_boxes"])


def _as_tokenized(captions: transformers.BatchEncoding, **_: object) -> transformers.BatchEncoding:
    """Stands where the package tokenises: the tokens are already there."""
    return captions


def load_original_dino(reference: ModelReference, placement: Placement) -> GroundingDinoDetector:
    """Loads `groundingdino:CONFIG,CHECKPOINT`.

    The configuration is read, never run; a pickled checkpoint is read by torch's restricted
    reader, which knows tensors and runs nothing. The text encoder is the folder that the
    configuration's `text_encoder_type` names beside it, or that repository of the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    config_path, weights_path = original_files(reference)
    config = read_original_config(config_path)
    _package(reference)
    with loading(reference):
        text = _text_checkpoint(config_path, config)
        tokenizer = Tokenizer(load_tokenizer(text, offsets=True), max_tokens=_MAX_TOKENS)
        model = _build(reference, config, text, tokenizer.inner)
        _load_weights(model, weights_path)
        model = model.to(placement.device, placement.dtype).eval()
    images: Any = transformers.GroundingDinoImageProcessor()
    image = processor_definition(images)
    info = ModelInfo(
        id=reference.text,
        revision=weights_revision([weights_path, config_path]),
        preprocess=preprocess_hash({"image": image, "text": tokenizer.definition()}),
        dtype=placement.dtype_name,
    )
    return GroundingDinoDetector(_Adapted(model), images, tokenizer, placement=placement, info=info)


def _text_checkpoint(config_path: Path, config: dict[str, Any]) -> Checkpoint:
    named = str(config.get("text_encoder_type", "bert-base-uncased"))
    folder = config_path.parent / named
    where = f"hf:{folder.resolve()}" if folder.is_dir() else f"hf:{named}"
    return open_checkpoint(ModelReference.parse(where))


def _package(reference: ModelReference) -> tuple[Any, Any]:
    """The package's models, and where it takes its text encoder from."""
    try:
        return (
            importlib.import_module("groundingdino.models"),
            importlib.import_module("groundingdino.util.get_tokenlizer"),
        )
    except ModuleNotFoundError as error:
        raise missing_package(reference, error.name) from None


def _build(
    reference: ModelReference,
    config: dict[str, Any],
    text: Checkpoint,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
) -> Any:  # noqa: ANN401 - the package is untyped
    models, sources = _package(reference)
    encoder = TextEncoder(load_config(text))
    # Checkpoints of activations are for training.
    options = {**config, "use_checkpoint": False, "use_transformer_ckpt": False}
    with _sources(sources, tokenizer, encoder):
        model: Any = models.build_model(SimpleNamespace(**options))
    model.bert = encoder
    return model


@contextmanager
def _sources(module: Any, tokenizer: object, encoder: object) -> Generator[None]:  # noqa: ANN401 - the package is untyped
    """The package fetches its text encoder by name from two functions: here it is given one."""
    before = module.get_tokenlizer, module.get_pretrained_language_model
    module.get_tokenlizer = lambda *_: tokenizer  # pyright: ignore[reportUnknownLambdaType]
    module.get_pretrained_language_model = lambda *_: encoder  # pyright: ignore[reportUnknownLambdaType]
    try:
        yield
    finally:
        module.get_tokenlizer, module.get_pretrained_language_model = before


def _load_weights(model: Any, path: Path) -> None:  # noqa: ANN401 - the package is untyped
    if path.suffix == ".safetensors":
        check_safetensors(path)
        tensors: dict[str, Any] = load_file(path)
    else:
        check_torch_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = content.get("model", content)
    named = {name.removeprefix(_TRAINING_WRAPPER): tensor for name, tensor in tensors.items()}
    report = model.load_state_dict(named, strict=False)
    absent: Sequence[str] = [
        name
        for name in report.missing_keys
        if not name.endswith(_COMPUTED) and not name.startswith(_UNREAD)
    ]
    if absent:
        raise ModelLoadError(
            f"{path} lacks {len(absent)} tensors of the configuration's model, such as "
            f"{absent[0]}: use the checkpoint that belongs to the configuration"
        )
