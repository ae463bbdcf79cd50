"""Each detector family: the library's own boxes, and the same ones in other company."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sightline_service.models.families import DETECTORS
from sightline_service.models.load import load_detector

AT = Path(__file__).parents[2] / "service" / "models" / "conftest.py"
SPEC = importlib.util.spec_from_file_location("service_models", AT)
TINY = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TINY)
PHRASES = ("dog", "hot dog", "a large red umbrella")
PROMPT = "dog. hot dog. a large red umbrella."
SPANS = (slice(1, 2), slice(3, 5), slice(6, 10))
"""Where the phrases' tokens are, after [CLS] and each full stop."""
BFLOAT16_TOLERANCE = 0.05
"""What docs/models.md states: the largest difference of a box's score in bfloat16."""


def omdet(folder):
    torch.manual_seed(7)
    tokenizer = TINY.clip_tokenizer(length=24)
    tower = {"hidden_size": 48, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.OmDetTurboConfig(
        text_config={
            **tower,
            "model_type": "clip_text_model",
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "projection_dim": 48,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        backbone_config=transformers.SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        apply_layernorm_after_vision_backbone=False,  # for timm's layout, which this is not
        image_size=64,
        text_projection_in_dim=48,
        text_projection_out_dim=48,
        class_embed_dim=48,
        task_encoder_hidden_dim=32,
        encoder_in_channels=[32, 64, 128],
        encoder_hidden_dim=32,
        vision_features_channels=[32, 32, 32],
        encoder_attention_heads=2,
        encoder_dim_feedforward=48,
        decoder_hidden_dim=32,
        decoder_num_heads=2,
        decoder_num_layers=2,
        decoder_dim_feedforward=48,
        num_queries=12,
    )
    model = transformers.OmDetTurboForObjectDetection(config).eval()
    torch.nn.init.normal_(model.language_backbone.text_projection, std=0.2)
    model.save_pretrained(folder)
    image = transformers.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False)
    transformers.OmDetTurboProcessor(image, tokenizer).save_pretrained(folder)


def owl(kind):
    def build(folder):
        torch.manual_seed(4)
        tokenizer = TINY.clip_tokenizer()
        config = getattr(transformers, f"{kind}Config")(**TINY.owl_towers(tokenizer, 64))
        TINY.save_owl(getattr(transformers, f"{kind}ForObjectDetection")(config), folder)
        size = {"height": 64, "width": 64}
        image = getattr(transformers, f"{kind}ImageProcessor")(size=size)
        getattr(transformers, f"{kind}Processor")(image, tokenizer).save_pretrained(folder)

    return build


def dino(prefix):
    def build(folder):
        config = getattr(transformers, f"{prefix}Config")
        TINY.save_dino(folder, config, getattr(transformers, f"{prefix}ForObjectDetection"))

    return build


BUILDERS = {
    "transformers OWL-ViT": owl("OwlViT"),
    "transformers OWLv2": owl("Owlv2"),
    "transformers Grounding DINO": dino("GroundingDino"),
    "transformers MM-Grounding DINO": dino("MMGroundingDino"),
    "transformers OmDet-Turbo": omdet,
}
NAMES = [family.name for family in DETECTORS]


@pytest.fixture(scope="session")
def pictures():
    return TINY.images((64, 48), (64, 48), (48, 64), (90, 90), (64, 48))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A family's folder, written when it is first asked for."""
    written = {}

    def of(name):
        if name not in written:
            written[name] = tmp_path_factory.mktemp("detector")
            BUILDERS[name](written[name])
        return written[name]

    return of


@pytest.fixture(scope="session")
def load(folder):
    loaded = {}

    def of(name, dtype="float32", device="cpu"):
        key = (name, dtype, device)
        if key not in loaded:
            loaded[key] = load_detector(f"hf:{folder(name)}", device=device, dtype=dtype)
        return loaded[key]

    return of


def by_library(name, folder, image):
    """The scores and corners (as fractions) of all candidates, best first, and whose they are."""
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    if "DINO" in name:
        inputs = processor(images=image, text=PROMPT, return_tensors="pt")
    elif "OmDet" in name:
        options = {"max_length": 24, "padding": "max_length", "truncation": True}
        inputs = processor(images=image, text=list(PHRASES), return_tensors="pt", **options)
        inputs.pop("pixel_mask", None)
    else:
        inputs = processor(images=image, text=[list(PHRASES)], return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    if "OmDet" in name:
        return outputs.decoder_class_logits[0].sigmoid(), outputs.decoder_coord_logits[0]
    scores = outputs.logits[0].sigmoid()
    if "DINO" in name:
        scores = torch.stack([scores[:, span].amax(dim=1) for span in SPANS], dim=1)
    return scores, outputs.pred_boxes[0]


def found(detector, image):
    inputs = detector.prepare(image, PHRASES, text_threshold=0.25)
    return [each for prepared in inputs for each in detector.detect([prepared])[0]]


def as_rows(detections):
    return [[each.phrase_index, each.score, *each.box] for each in detections]


def test_every_family_of_the_table_has_a_tiny_model():
    own_tests = [name for name in NAMES if not name.startswith("groundingdino-py")]
    assert list(BUILDERS) == own_tests


@pytest.mark.parametrize("name", BUILDERS)
def test_scores_and_boxes_equal_the_librarys_forward(name, folder, load):
    [square] = TINY.images((64, 64))  # no padding, so that fractions of image and view are one
    ours = found(load(name), square)
    scores, boxes = by_library(name, folder(name), square)
    best, owner = scores.max(dim=1)
    rows = [row for row in best.argsort(descending=True).tolist() if best[row] >= 0.05]
    assert len(ours) == len(rows) > 0
    for each, row in zip(ours, rows, strict=True):
        assert each.score == pytest.approx(float(best[row]), abs=1e-5)
    owners = sorted(each.phrase_index for each in ours)
    assert owners == sorted(owner[rows].tolist())
    ordered = sorted(each.box for each in ours)
    corners = sorted(
        tuple(np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1))
        for x, y, w, h in boxes[rows].tolist()
    )
    np.testing.assert_allclose(ordered, corners, atol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_detections_do_not_depend_on_neighbours_or_their_order(name, load, pictures):
    detector = load(name)
    prepared = [detector.prepare(image, PHRASES, text_threshold=0.25)[0] for image in pictures]
    alone = [detector.detect([one])[0] for one in prepared]
    alike = [place for place, one in enumerate(prepared) if one.group == prepared[0].group]
    assert len(alike) >= 3
    for order in (alike, alike[::-1]):
        together = detector.detect([prepared[place] for place in order])
        for place, batched in zip(order, together, strict=True):
            ours, single = (sorted(as_rows(each)) for each in (batched, alone[place]))
            np.testing.assert_allclose(ours, single, atol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_bfloat16_stays_near_float32(name, load, pictures):
    full, half = found(load(name), pictures[0]), found(load(name, "bfloat16"), pictures[0])
    assert load(name, "bfloat16").info.dtype == "bfloat16"
    assert as_rows(half) != as_rows(full)
    assert half[0].score == pytest.approx(full[0].score, abs=BFLOAT16_TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-3), ("float16", BFLOAT16_TOLERANCE), ("bfloat16", BFLOAT16_TOLERANCE)],
)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_gpu_detects_as_the_cpu_does(name, dtype, tolerance, load, pictures):
    detector = load(name, dtype, "cuda")
    assert detector.info.dtype == dtype
    best, expected = found(detector, pictures[0])[0], found(load(name), pictures[0])[0]
    assert best.score == pytest.approx(expected.score, abs=tolerance)


def test_each_family_has_a_provenance_of_its_own(load):
    assert len({load(name).info.revision for name in BUILDERS}) == len(BUILDERS)
