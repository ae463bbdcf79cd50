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
from open_clip.transform import (
    Compose,
    MaybeConvertMode,
    MaybeToTensor,
    Normalize,
    PreprocessCfg,
    image_transform_v2,
)

from sightline_proto import ModelInfo
from sightline_service.models.byte_resize import ByteResize
from sightline_service.models.causal_text import CausalText, pieces
from sightline_service.models.checkpoint import loading, open_checkpoint
from sightline_service.models.one_call import one_call
from sightline_service.models.open_clip_text import OpenClipText
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.preflight import check_open_clip_folder
from sightline_service.models.protocols import Prepared
from sightline_service.models.provenance import preprocess_hash, weights_revision
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.tensors import n_weights, on_device, padded, rows_of, unit

# open_clip annotates this as a plain module, and its options one by one.
_create_model: Any = open_clip.create_model
_EXAMPLES = ("a dog", "two cats on a sofa", "a man in a red coat reads a newspaper on a bench")
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


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
        self.n_weights = n_weights(model)
        self._model = model
        self._text = text
        self._placement = placement
        self._causal = CausalText.of(model)
        transform: Any = image_transform_v2(
            PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
        )
        *resize, to_tensor, normalize = transform.transforms
        assert isinstance(to_tensor, MaybeToTensor)
        assert isinstance(normalize, Normalize)
        on_rgb = [step for step in resize if not isinstance(step, MaybeConvertMode)]
        self._resize: Any = ByteResize.of(on_rgb) or Compose(resize)
        mean, std = (
            torch.tensor(of, device=placement.device) for of in (normalize.mean, normalize.std)
        )
        self._scale, self._shift = 1 / (255 * std), -mean / std
        image = self.prepare_image(PIL.Image.linear_gradient("L").convert("RGB"))
        texts = [self.prepare_text(text) for text in _EXAMPLES]
        self._encode_images = one_call(
            model, self._units_of_pixels, [(self._pixels([image] * n),) for n in (2, 1, 3)]
        )
        self._encode_texts = one_call(
            model, self._units_of_ids, [(self._ids(texts[:n]),) for n in (2, 1, 3)]
        )

    def prepare_image(self, image: PIL.Image.Image) -> Prepared:
        """Resizes and crops an RGB image to bytes [h, w, 3]; the device does the rest faster.

        A byte differs by 1 at most from what the library's own resize gives.
        """
        pixels = np.asarray(self._resize(image))
        return Prepared(data=pixels, cost=pixels.shape[0] * pixels.shape[1])

    def prepare_text(self, text: str) -> Prepared:
        """Tokenises, cuts at the context length, and keeps the end token."""
        tokens = self._text.encode(text)
        if self._causal is None:
            ids = self._text.padded(tokens.ids)
        else:
            ids = self._causal.trimmed(tokens.ids)
        return Prepared(data=ids, cost=len(ids), truncated=tokens.truncated)

    def embed_images(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        with forward_pass():
            return rows_of(self._encode_images(self._pixels(batch)))

    def embed_texts(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]; short texts are not padded to the longest."""
        with forward_pass():
            parts = pieces([len(prepared.data) for prepared in batch])
            embedded = np.concatenate(
                [rows_of(self._encode_texts(self._ids([batch[n] for n in part]))) for part in parts]
            )
        ordered = np.empty_like(embedded)
        ordered[[n for part in parts for n in part]] = embedded
        return ordered

    def _pixels(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """Returns bytes [n, h, w, 3] on the device."""
        images: list[NDArray[np.uint8]] = [prepared.data for prepared in batch]
        shape = (len(images), *images[0].shape)
        assert all(image.shape == shape[1:] for image in images)
        joined = bytearray().join(image.data for image in images)
        return on_device(np.frombuffer(joined, np.uint8).reshape(shape), self._placement.device)

    def _ids(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """Returns token ids [n, longest] on the device."""
        rows = [prepared.data for prepared in batch]
        return on_device(padded(rows, pad_id=0), self._placement.device)

    def _units_of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return unit(self._model.encode_image(self._normalized(pixels).to(self._placement.dtype)))

    def _units_of_ids(self, ids: torch.Tensor) -> torch.Tensor:
        encode = self._model.encode_text if self._causal is None else self._causal.encode
        return unit(encode(ids))

    def _normalized(self, stacked: torch.Tensor) -> torch.Tensor:
        """Returns [n, 3, h, w] of bytes [n, h, w, 3]: what ToTensor and Normalize make of them.

        The order of the bytes is kept, and the constants are as long as a row, so that each of few
        steps is one pass over memory in order.
        """
        n, height, width, channels = stacked.shape
        rows = stacked.view(n, height, width * channels).float()
        scale, shift = self._scale.repeat(width), self._shift.repeat(width)
        scaled = torch.addcmul(shift, rows, scale, out=rows)
        return scaled.view(stacked.shape).permute(0, 3, 1, 2)


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
    if path.suffix != ".safetensors" and not reference.allow_pickle:
        raise ModelLoadError(
            f"{path} is a pickle, which can run code when it is read: choose a tag of {name} that "
            f"has safetensors ({', '.join(tags)}), convert it and use open_clip:local-dir:, or say "
            "--allow-pickle, with which torch's restricted reader reads it"
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
