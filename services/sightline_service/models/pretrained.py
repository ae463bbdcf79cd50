"""Folders in transformers' layout become models and processors. Knows files; knows no scores."""

from typing import Any

import torch
import transformers

from sightline_proto import ModelInfo
from sightline_service.models.architectures import model_type_of, unknown
from sightline_service.models.checkpoint import Checkpoint
from sightline_service.models.placement import Placement
from sightline_service.models.provenance import preprocess_hash
from sightline_service.models.reference import ModelLoadError, ModelReference

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""What `from_pretrained` is called with: a local folder is read, whose revision is settled."""
# These two classes are published without types.
_AutoImageProcessor: Any = transformers.AutoImageProcessor
_AutoProcessor: Any = transformers.AutoProcessor
_VOLATILE = ("transformers_version", "_processor_class", "processor_class")


def load_config(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - a class per architecture
    """Returns the model's configuration.

    Raises:
        ModelLoadError: there is none, or it names an architecture that transformers does not have.
    """
    model_type = model_type_of(checkpoint)
    if model_type not in transformers.CONFIG_MAPPING:
        raise unknown(checkpoint, model_type)
    return transformers.AutoConfig.from_pretrained(checkpoint.folder, **_LOCAL)  # nosec B615


def load_model(auto_class: Any, checkpoint: Checkpoint, placement: Placement) -> Any:  # noqa: ANN401 - a class per architecture
    """Returns the model on its device, in evaluation mode.

    Raises:
        ModelLoadError: the weights lack tensors of the architecture or have them in other shapes,
            which transformers would fill with random numbers.
    """
    checkpoint.check_weights()
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated
    model, report = auto_class.from_pretrained(
        checkpoint.folder,
        dtype=placement.dtype,
        use_safetensors=bool(checkpoint.safetensors),
        weights_only=True,
        output_loading_info=True,
        **_LOCAL,
    )
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ModelLoadError(
            f"{checkpoint.folder} lacks {len(absent)} tensors of {type(model).__name__}, such as "
            f"{absent[0]}: copy the whole model there, or serve it as what it is"
        )
    return model.to(placement.device).eval()


def load_image_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - a class per architecture
    """Returns the model's own image preprocessing.

    Raises:
        ModelLoadError: the folder does not say how images are preprocessed.
    """
    checkpoint.require_image_processor()
    return _AutoImageProcessor.from_pretrained(checkpoint.folder, **_LOCAL)


def load_tokenizer(checkpoint: Checkpoint, *, offsets: bool = False) -> Any:  # noqa: ANN401 - a class per architecture
    """Returns the model's own tokeniser.

    Raises:
        ModelLoadError: the folder has none, or `offsets` are needed and it cannot tell which
            characters a token stands for.
    """
    checkpoint.require_tokenizer()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, **_LOCAL)  # nosec B615
    if offsets:
        _require_offsets(tokenizer, checkpoint)
    return tokenizer


def load_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - a class per architecture
    """Returns the model's own image processor and tokeniser in one.

    Raises:
        ModelLoadError: the folder does not say how images are preprocessed, how texts are, or
            which token stands for an image.
    """
    checkpoint.require_image_processor()
    checkpoint.require_tokenizer()
    processor = _AutoProcessor.from_pretrained(checkpoint.folder, **_LOCAL)
    if not getattr(processor, "image_token", None):
        raise ModelLoadError(
            f"{checkpoint.folder} has a {type(processor).__name__}, which names no token that "
            "stands for an image: it is not served, use for example hf:llava-hf/llava-1.5-7b-hf"
        )
    _require_offsets(processor.tokenizer, checkpoint)
    return processor


def _require_offsets(tokenizer: Any, checkpoint: Checkpoint) -> None:  # noqa: ANN401 - a class per architecture
    if not tokenizer.is_fast:
        raise ModelLoadError(
            f"{checkpoint.folder} has a tokenizer without character offsets: save a tokenizer.json"
        )


def image_inputs(processor: Any, image: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a class per architecture
    """Preprocesses one RGB image; each tensor has a leading axis of images, here 1."""
    return dict(processor(images=image, return_tensors="pt"))


def processor_definition(processor: Any) -> dict[str, object]:  # noqa: ANN401 - a class per architecture
    """Returns the image preprocessing as it is applied: sizes, mean, interpolation and so on."""
    settings = processor.to_dict()
    return {name: value for name, value in settings.items() if name not in _VOLATILE}


def model_info(
    reference: ModelReference,
    checkpoint: Checkpoint,
    placement: Placement,
    **preprocess: object,
) -> ModelInfo:
    """Returns what replies say of a model."""
    return ModelInfo(
        id=reference.text,
        revision=checkpoint.revision(),
        preprocess=preprocess_hash(preprocess),
        dtype=placement.dtype_name,
    )
