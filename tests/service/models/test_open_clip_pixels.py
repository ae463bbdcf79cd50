"""What an open_clip model is given, beside the library's own transform."""

import numpy as np
import open_clip
import PIL.Image
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from sightline_service.models.load import load_similarity


def test_the_model_sees_the_prepared_bytes_as_the_library_scales_them(
    open_clip_folder, mixed_images
):
    reference = f"local-dir:{open_clip_folder}"
    served = load_similarity(f"open_clip:{reference}", device="cpu", dtype="float32")
    batch = [served.prepare_image(picture) for picture in mixed_images]
    pixels = served._normalized(served._pixels(batch))
    config = open_clip.create_model(reference).visual.preprocess_cfg
    *_, to_tensor, normalize = image_transform_v2(
        PreprocessCfg(**config), is_train=False
    ).transforms
    pictures = [PIL.Image.fromarray(prepared.data) for prepared in batch]
    expected = torch.stack([normalize(to_tensor(picture)) for picture in pictures])
    assert len({prepared.data.tobytes() for prepared in batch}) > 1
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels, expected, atol=2e-6)
