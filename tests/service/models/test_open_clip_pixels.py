"""What an open_clip model is given, beside the library's own transform."""

import numpy as np
import open_clip
import PIL.Image
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from sightline_service.models import open_clip_similarity
from sightline_service.models.load import load_similarity


def test_the_model_sees_the_prepared_bytes_as_the_library_scales_them(
    open_clip_folder, mixed_images, monkeypatch
):
    monkeypatch.setattr(open_clip_similarity, "one_call", lambda model, encode, examples: encode)
    reference = f"local-dir:{open_clip_folder}"
    served = load_similarity(f"open_clip:{reference}", device="cpu", dtype="float32")
    seen = []
    encode = served._model.encode_image
    monkeypatch.setattr(
        served._model, "encode_image", lambda pixels: seen.append(pixels.clone()) or encode(pixels)
    )
    batch = [served.prepare_image(picture) for picture in mixed_images]
    served.embed_images(batch)
    config = open_clip.create_model(reference).visual.preprocess_cfg
    *_, to_tensor, normalize = image_transform_v2(
        PreprocessCfg(**config), is_train=False
    ).transforms
    pictures = [PIL.Image.fromarray(prepared.data) for prepared in batch]
    expected = torch.stack([normalize(to_tensor(picture)) for picture in pictures])
    assert len({prepared.data.tobytes() for prepared in batch}) > 1
    [pixels] = seen
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels, expected, atol=2e-6)


def test_python_runs_no_layer_of_a_served_model(open_clip_folder, mixed_images, monkeypatch):
    served = load_similarity(
        f"open_clip:local-dir:{open_clip_folder}", device="cpu", dtype="float32"
    )
    images = [served.prepare_image(picture) for picture in mixed_images]
    texts = [served.prepare_text(text) for text in ("a dog", "two small cats on a red bus")]
    before = served.embed_images(images), served.embed_texts(texts)

    def refuse(*inputs):
        raise AssertionError

    for module in served._model.modules():
        monkeypatch.setattr(module, "forward", refuse)
    after = served.embed_images(images), served.embed_texts(texts)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)
