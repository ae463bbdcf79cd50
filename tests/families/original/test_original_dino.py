"""Original Grounding DINO through groundingdino-py, against transformers' with the same weights.

Runs where the extra `groundingdino` is installed.
"""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from sightline_service.models.load import load_detector
from sightline_service.models.original_config import read_original_config
from sightline_service.models.reference import ModelLoadError

pytest.importorskip("groundingdino", reason="needs the extra groundingdino")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Importing from timm.models.layers:FutureWarning"),
    pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.cuda.amp.autocast:FutureWarning"),
]
AT = Path(__file__).parents[2] / "service" / "models" / "conftest.py"
SPEC = importlib.util.spec_from_file_location("service_models", AT)
TINY = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TINY)
PHRASES = ("dog", "hot dog", "a large red umbrella")
CHANGES = {
    "enc_layers": 2,
    "dec_layers": 2,
    "dim_feedforward": 48,
    "num_queries": 12,
    "text_encoder_type": "bert",
}
RENAMED = (
    (r"^backbone\.0\.norm(\d)\.", lambda m: f"{SWIN}hidden_states_norms.stage{int(m[1]) + 1}."),
    (r"^backbone\.0\.patch_embed\.proj\.", "{SWIN}swin.embeddings.patch_embeddings.projection."),
    (r"^backbone\.0\.patch_embed\.norm\.", "{SWIN}swin.embeddings.norm."),
    (r"^backbone\.0\.layers\.", "{SWIN}swin.encoder.layers."),
    (r"(swin.*blocks\.\d\.)norm1\.", r"\1layernorm_before."),
    (r"(swin.*blocks\.\d\.)norm2\.", r"\1layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_table", ".attention.relative_position_bias.TABLE"),
    (r"^input_proj\.", "model.input_proj_vision."),
    (r"^feat_map\.", "model.text_projection."),
    (r"^bert\.", "model.text_backbone."),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.encoder\.layers\.(\d)\.", r"model.encoder.layers.\1.deformable_layer."),
    (
        r"^transformer\.encoder\.text_layers\.(\d)\.",
        r"model.encoder.layers.\1.text_enhancer_layer.",
    ),
    (r"^transformer\.encoder\.fusion_layers\.(\d)\.", r"model.encoder.layers.\1.fusion_layer."),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.decoder\.ref_point_head", "model.decoder.reference_points_head"),
    (r"^transformer\.", "model."),
    (r"(deformable_layer\.)norm1", r"\1self_attn_layer_norm"),
    (r"(deformable_layer\.)norm2", r"\1final_layer_norm"),
    (r"(enhancer_layer\.)norm1", r"\1layer_norm_before"),
    (r"(enhancer_layer\.)norm2", r"\1layer_norm_after"),
    (r"gamma_v", "vision_param"),
    (r"gamma_l", "text_param"),
    (r"layer_norm_v\.", "layer_norm_vision."),
    (r"layer_norm_l\.", "layer_norm_text."),
    (r"(fusion_layer\.attn\..*)v_proj", r"\1vision_proj"),
    (r"(fusion_layer\.attn\..*)l_proj", r"\1text_proj"),
    (r"(decoder.*)\.cross_attn", r"\1.encoder_attn"),
    (r"(decoder.*)\.norm1", r"\1.encoder_attn_layer_norm"),
    (r"(decoder.*)\.norm2", r"\1.self_attn_layer_norm"),
    (r"(decoder.*)\.norm3", r"\1.final_layer_norm"),
    (r"(decoder.*)\.ca_text", r"\1.encoder_attn_text"),
    (r"(decoder.*)\.catext_norm", r"\1.encoder_attn_text_layer_norm"),
    (r"((?:encoder|decoder)\.layers.*)\.linear(\d)", r"\1.fc\2"),
)
SWIN = "model.backbone.conv_encoder.model."
JOINED = (
    (".attn.qkv.", [f".attention.{part}_proj." for part in "qkv"]),
    (".in_proj_", [f".{part}." for part in ("query", "key", "value")]),
)


def in_transformers(name, known):
    """What transformers calls a tensor of the original, three names where it splits it."""
    for pattern, replacement in RENAMED:
        if isinstance(replacement, str):
            replacement = replacement.replace("{SWIN}", SWIN)
        name = re.sub(pattern, replacement, name)
    if name.endswith("TABLE"):
        stem = name.removesuffix("TABLE")
        [name] = [each for each in known if each.startswith(stem) and each.endswith("table")]
    for mark, parts in JOINED:
        if mark in name:
            return [name.replace(mark, part) for part in parts]
    return [name]


def transformers_model(bert):
    swin = transformers.SwinConfig(
        image_size=224,
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_queries=12,
    )
    return transformers.GroundingDinoForObjectDetection(config).eval()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Both folders, with the same random weights, made by transformers and renamed."""
    torch.manual_seed(0)
    original, converted = tmp_path_factory.mktemp("original"), tmp_path_factory.mktemp("hf")
    tokenizer = TINY.bert_tokenizer()
    bert = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
    )
    tokenizer.save_pretrained(original / "bert")
    bert.save_pretrained(original / "bert")
    import groundingdino

    shipped = Path(groundingdino.__file__).parent / "config" / "GroundingDINO_SwinT_OGC.py"
    settings = {**read_original_config(shipped), **CHANGES}
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    (original / "config.py").write_text("".join(lines))
    model = transformers_model(bert)
    for name, tensor in model.named_parameters():
        if "bbox_embed" in name:
            torch.nn.init.normal_(tensor, std=0.02)
    model.save_pretrained(converted)
    image = transformers.GroundingDinoImageProcessor()
    transformers.GroundingDinoProcessor(image, tokenizer).save_pretrained(converted)
    write_original(original, model.state_dict())
    return original, converted


def write_original(folder, tensors):
    """transformers' tensors under the names of the original's checkpoint, joined where it does."""
    renamed = {}
    for name in original_names(folder):
        parts = in_transformers(name, tensors)
        renamed[f"module.{name}"] = torch.cat([tensors[part] for part in parts]).clone()
    torch.save({"model": renamed}, folder / "weights.pth")
    save_file(
        {name.removeprefix("module."): tensor for name, tensor in renamed.items()},
        folder / "weights.safetensors",
    )


def original_names(folder):
    from sightline_service.models import original_dino
    from sightline_service.models.checkpoint import Checkpoint
    from sightline_service.models.reference import ModelReference

    text = Checkpoint(folder / "bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(text.folder)
    config = read_original_config(folder / "config.py")
    reference = ModelReference.parse("groundingdino:config.py,weights.pth")
    model = original_dino._build(reference, config, text, tokenizer)
    left_out = re.compile(r"relative_position_index$|^bert\.pooler")
    return [name for name in model.state_dict() if not left_out.search(name)]


@pytest.mark.parametrize("weights", ["weights.pth", "weights.safetensors"])
def test_detections_equal_transformers_with_the_same_weights(weights, pair):
    original, converted = pair
    place = {"device": "cpu", "dtype": "float32"}
    ours = load_detector(f"groundingdino:{original}/config.py,{original}/{weights}", **place)
    theirs = load_detector(f"hf:{converted}", **place)
    for image in TINY.images((64, 48), (40, 90)):
        rows = []
        for detector in (ours, theirs):
            prepared = detector.prepare(image, PHRASES, text_threshold=0.25)
            [found] = detector.detect(prepared)
            rows.append([[each.phrase_index, each.score, *each.box] for each in found])
        assert len(rows[0]) == len(rows[1]) > 0
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    assert ours.info.preprocess == theirs.info.preprocess


def test_a_checkpoint_of_another_configuration_is_refused(pair, tmp_path):
    original, _ = pair
    torch.save({"model": {"module.feat_map.weight": torch.zeros(256, 32)}}, tmp_path / "other.pth")
    with pytest.raises(ModelLoadError, match=r"other\.pth lacks \d+ tensors"):
        load_detector(
            f"groundingdino:{original}/config.py,{tmp_path}/other.pth",
            device="cpu",
            dtype="float32",
        )
