"""Each verifier family against its own library, and against itself in other company."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers

from sightline_service.models.families import VERIFIERS
from sightline_service.models.load import load_similarity

SPEC = importlib.util.spec_from_file_location("verifiers", Path(__file__).with_name("models.py"))
MODELS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODELS)
CAPTIONS = ["A dog.", "two small cats sit under a large red umbrella and a bus", "x", "a dog " * 90]
LENGTHS = {"transformers ALIGN": 64, "transformers CLIP (336)": 16}
SIGLIP_LENGTH = 12
BFLOAT16_TOLERANCE = 0.02
"""What docs/models.md states: the largest difference of a cosine in bfloat16 from float32."""
NAMES = [family.name for family in VERIFIERS]


@pytest.fixture(scope="session")
def pictures():
    return MODELS.TINY.images((64, 48), (31, 77), (64, 48), (200, 50), (90, 90))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A family's folder, written when it is first asked for."""
    written = {}

    def of(name):
        if name not in written:
            written[name] = tmp_path_factory.mktemp("verifier")
            MODELS.BUILDERS[name](written[name])
        return written[name]

    return of


@pytest.fixture(scope="session")
def load(folder):
    loaded = {}

    def of(name, dtype="float32", device="cpu"):
        key = (name, dtype, device)
        if key not in loaded:
            prefix = "open_clip:local-dir" if name.startswith("open_clip") else "hf"
            reference = f"{prefix}:{folder(name)}"
            loaded[key] = load_similarity(reference, device=device, dtype=dtype)
        return loaded[key]

    return of


def embedded(model, images, texts):
    return (
        model.embed_images([model.prepare_image(image) for image in images]),
        model.embed_texts([model.prepare_text(text) for text in texts]),
    )


def by_open_clip(folder, images, texts):
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    pixels = torch.stack([transform(image) for image in images])
    return model.eval().encode_image(pixels), model.encode_text(tokenizer(texts))


def by_transformers(name, folder, images, texts):
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    length = LENGTHS.get(name, SIGLIP_LENGTH)
    options = {"max_length": length, "truncation": True, "padding": "max_length"}
    ids = processor(text=texts, return_tensors="pt", **options)
    if "SigLIP" in name:
        ids.pop("attention_mask", None)  # it was trained to see its padding
    # A processor for SigLIP 2 overrides what its own folder says of patches.
    own = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = own(images=images, return_tensors="pt")
    return (
        model.get_image_features(**pixels).pooler_output,
        model.get_text_features(**ids).pooler_output,
    )


def test_every_family_of_the_table_has_a_tiny_model():
    assert list(MODELS.BUILDERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_vectors_equal_the_librarys_own(name, folder, load, pictures):
    ours = embedded(load(name), pictures, CAPTIONS)
    with torch.inference_mode():
        if name.startswith("open_clip"):
            theirs = by_open_clip(folder(name), pictures, CAPTIONS)
        else:
            theirs = by_transformers(name, folder(name), pictures, CAPTIONS)
    for our, their in zip(ours, theirs, strict=True):
        unit = torch.nn.functional.normalize(their, dim=-1).numpy()
        # open_clip's images are resized on bytes, of which some differ by 1 from the library's
        atol = 1e-3 if name.startswith("open_clip") else 2e-6
        np.testing.assert_allclose(our, unit, atol=atol)
        assert np.ptp(our, axis=0).max() > 1e-3, "the inputs must not all be embedded alike"


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_its_neighbours_or_their_order(name, load, pictures):
    model = load(name)
    images, texts = embedded(model, pictures, CAPTIONS)
    backwards = embedded(model, pictures[::-1], CAPTIONS[::-1])
    np.testing.assert_allclose(backwards[0][::-1], images, atol=1e-6)
    np.testing.assert_allclose(backwards[1][::-1], texts, atol=1e-6)
    for place, picture in enumerate(pictures):
        alone, _ = embedded(model, [picture], CAPTIONS[:1])
        np.testing.assert_allclose(alone[0], images[place], atol=1e-6)
    for place, caption in enumerate(CAPTIONS):
        _, alone = embedded(model, pictures[:1], [caption])
        np.testing.assert_allclose(alone[0], texts[place], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_near_float32(name, load, pictures):
    full = embedded(load(name), pictures, CAPTIONS)
    half = embedded(load(name, "bfloat16"), pictures, CAPTIONS)
    assert load(name, "bfloat16").info.dtype == "bfloat16"
    difference = np.abs(half[0] @ half[1].T - full[0] @ full[1].T).max()
    assert 0 < difference < BFLOAT16_TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-3), ("float16", BFLOAT16_TOLERANCE), ("bfloat16", BFLOAT16_TOLERANCE)],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_scores_as_the_cpu_does(name, dtype, tolerance, load, pictures):
    ours, theirs = load(name, dtype, "cuda"), load(name)
    assert ours.info.dtype == dtype
    found, expected = (
        images @ texts.T
        for images, texts in (embedded(model, pictures, CAPTIONS) for model in (ours, theirs))
    )
    assert np.abs(found - expected).max() < tolerance


def test_each_family_has_a_provenance_of_its_own(load):
    infos = [load(name).info for name in NAMES]
    assert len({info.revision for info in infos}) == len(NAMES)
    assert all(info.revision.startswith("sha256:") for info in infos)
    assert all(load(name).prepare_text(CAPTIONS[-1]).truncated for name in NAMES)


def test_quick_gelu_is_what_the_folder_says(folder, load, pictures, tmp_path):
    """The same weights with the other activation are another model: the config must be heeded."""
    source = folder("open_clip ViT, LAION (GELU, 224)")
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    quick = load_similarity(f"open_clip:local-dir:{tmp_path}", device="cpu", dtype="float32")
    plain = load("open_clip ViT, LAION (GELU, 224)")
    difference = embedded(quick, pictures, CAPTIONS)[0] - embedded(plain, pictures, CAPTIONS)[0]
    assert np.abs(difference).max() > 1e-4
    assert quick.info.revision != plain.info.revision
