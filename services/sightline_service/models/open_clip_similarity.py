"""open_clip models as similarity models. Knows open_clip and torch; knows no transformers model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import PIL.Image
import torch
from numpy.typing import NDArray
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2

from sightline_proto import ModelInfo
from sightline_service.models.checkpoint import Checkpoint, loading, open_checkpoint
from sightline_service.models.open_clip_text import OpenClipText
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.protocols import Prepared
from sightline_service.models.provenance import preprocess_hash, weights_revision
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.tensors import unit_rows

# open_clip annotates this as a plain module, and its options one by one.
_create_model: Any = open_clip.create_model
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_CONFIG = "open_clip_config.json"


class OpenClipSimilarity:
    """An open_clip model with its own evaluation transform and tokeniser.

    Args:
        model: the model, on its device.
        text: its own tokeniser.
        placement: device and arithmetic.
        info: its identity in replies.
    """

    scale = "cos100"

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - open_clip is untyped
        text: OpenClipText,
        *,
        placement: Placement,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self._model = model
        self._text = text
        self._placement = placement
        self._transform: Any = image_transform_v2(
            PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
        )

    def prepare_image(self, image: PIL.Image.Image) -> Prepared:
        """Preprocesses an RGB image to [3, h, w]."""
        pixels = self._transform(image)
        return Prepared(data=pixels, cost=pixels.shape[-2] * pixels.shape[-1])

    def prepare_text(self, text: str) -> Prepared:
        """Tokenises, cuts at the context length, and keeps the end token."""
        tokens = self._text.encode(text)
        return Prepared(data=tokens.ids, cost=self._text.context, truncated=tokens.truncated)

    def embed_images(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        with forward_pass():
            pixels = torch.stack([prepared.data for prepared in batch])
            features = self._model.encode_image(
                pixels.to(self._placement.device, self._placement.dtype)
            )
            return unit_rows(features)

    def embed_texts(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        with forward_pass():
            ids = torch.tensor([prepared.data for prepared in batch])
            return unit_rows(self._model.encode_text(ids.to(self._placement.device)))


def load_open_clip_similarity(
    reference: ModelReference, placement: Placement
) -> OpenClipSimilarity:
    """Loads an open_clip model by name and tag, from a local folder, or from the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    if reference.names is not None:
        with loading(reference):
            return _load_tag(reference, *reference.names, placement)
    checkpoint = open_checkpoint(reference)
    with loading(reference, checkpoint):
        check_open_clip_folder(checkpoint)
        name = f"local-dir:{checkpoint.folder}"
        return _load(reference, name, placement, revision=checkpoint.revision())


def check_open_clip_folder(checkpoint: Checkpoint) -> None:
    """Checks that a folder says what model and what preprocessing its weights are for.

    Raises:
        ModelLoadError: naming the file that is missing or broken.
    """
    mend = "write it with open_clip's push_to_hf_hub.save_for_hf; preprocessing is never guessed"
    config = checkpoint.read_json(_CONFIG, mend=mend)
    preprocess, model = config.get("preprocess_cfg"), config.get("model_cfg")
    where = checkpoint.folder / _CONFIG
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg"), dict):
        raise ModelLoadError(f"{where} lacks model_cfg with text_cfg: {mend}")
    if not isinstance(preprocess, dict) or not {"mean", "std"} <= preprocess.keys():
        raise ModelLoadError(f"{where} lacks preprocess_cfg with mean and std: {mend}")
    checkpoint.check_weights()
    checkpoint.require(*_WEIGHTS, mend="give the open_clip weights this name")
    if model["text_cfg"].get("hf_tokenizer_name"):
        checkpoint.require_tokenizer()


def _load_tag(
    reference: ModelReference, name: str, tag: str, placement: Placement
) -> OpenClipSimilarity:
    """A tag decides the preprocessing and the activation; an unknown one would be guessed."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise ModelLoadError(
            f"{reference.text}: open_clip has no pretrained model {name!r}: see "
            "open_clip.list_pretrained(), for example open_clip:ViT-L-14-336/openai"
        )
    if tag not in tags:
        raise ModelLoadError(
            f"{reference.text}: {name} has no tag {tag!r}: use one of {', '.join(tags)}"
        )
    config = get_pretrained_cfg(name, tag)
    path = Path(download_pretrained(config))
    if path.suffix != ".safetensors":
        raise ModelLoadError(
            f"{path} is a pickle, which can run code when it is read: choose a tag of {name} that "
            f"has safetensors ({', '.join(tags)}), or convert it and use open_clip:local-dir:"
        )
    hub_commit = path.parent.name if path.parent.parent.name == "snapshots" else None
    return _load(
        reference,
        name,
        placement,
        revision=hub_commit or weights_revision([path]),
        pretrained=tag,
        force_quick_gelu=bool(config.get("quick_gelu", False)),
    )


def _load(
    reference: ModelReference,
    name: str,
    placement: Placement,
    *,
    revision: str,
    **options: object,
) -> OpenClipSimilarity:
    model = _create_model(
        name,
        precision=_PRECISIONS[placement.dtype_name],
        device=placement.device,
        require_pretrained=True,
        weights_only=True,
        **options,
    ).eval()
    _cast_pooling(model, placement)
    text = OpenClipText(open_clip.get_tokenizer(name))
    image = dataclasses.asdict(PreprocessCfg(**model.visual.preprocess_cfg))
    info = ModelInfo(
        id=reference.text,
        revision=revision,
        preprocess=preprocess_hash({"image": image, "text": text.definition()}),
        dtype=placement.dtype_name,
    )
    return OpenClipSimilarity(model, text, placement=placement, info=info)


def _cast_pooling(model: Any, placement: Placement) -> None:  # noqa: ANN401 - open_clip is untyped
    """CoCa pools with parameters that open_clip leaves in float32 when it casts the rest."""
    if isinstance(model, open_clip.CoCa):
        text, visual = cast("Any", model.text), cast("Any", model.visual)
        text.cls_emb.data = text.cls_emb.data.to(placement.dtype)
        visual.attn_pool.to(placement.dtype)
