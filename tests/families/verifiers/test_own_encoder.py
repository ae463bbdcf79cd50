"""FiSAO's self-alignment: the encoder behind a policy, found and held against its weights."""

import importlib.util
import json
import logging
import re
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sightline_service.loading import ModelLoader
from sightline_service.models import policy_tower
from sightline_service.models.checkpoint import Checkpoint
from sightline_service.models.load import load_similarity, preflight
from sightline_service.models.policy_tower import Tower, encoder_of
from sightline_service.models.reference import ModelLoadError, ModelReference
from sightline_service.models.weights_lock import LOCK_NAME, WeightsFolder, check_locked
from sightline_service.settings import Settings

HERE = Path(__file__).parent


def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


VERIFIERS = module("verifiers", HERE / "models.py")
POLICIES = module("policies", HERE.parent / "policies" / "models.py")
LLAVA_15 = {
    "model_type": "llava",
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
}
ONEVISION = {
    "model_type": "llava_onevision",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 384,
        "model_type": "siglip_vision_model",
        "num_hidden_layers": 26,
        "patch_size": 14,
        "vision_use_head": False,
    },
}
PALIGEMMA = {
    "model_type": "paligemma",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model", "patch_size": 14},
}
"""As their repositories have it, in what matters here."""


def load(reference, **options):
    return load_similarity(reference, device="cpu", dtype="float32", **options)


def refusal(reference):
    with pytest.raises(ModelLoadError) as caught:
        load(reference)
    return str(caught.value)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP whose vision tower has the shape of the tiny LLaVA's."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = VERIFIERS.TINY.clip_tokenizer()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    text = {**VERIFIERS.TOWER, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=POLICIES.TOWER, projection_dim=24
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 28, "width": 28}
    transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A LLaVA with a vision tower of its own."""
    folder = tmp_path_factory.mktemp("strange")
    POLICIES.llava(folder)
    return folder


@pytest.fixture(scope="module")
def llava(strange, clip, tmp_path_factory):
    """The same LLaVA, saved by transformers with CLIP's tower in it."""
    folder = tmp_path_factory.mktemp("llava")
    model = transformers.AutoModelForImageTextToText.from_pretrained(strange)
    tower = transformers.CLIPModel.from_pretrained(clip).vision_model.state_dict()
    model.model.vision_tower.load_state_dict(tower)
    model.half().save_pretrained(folder)
    return folder


def hand_made(folder, config, tensors):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def as_on_the_hub(tensors, dtype):
    """Names and types as in llava-hf's repositories."""
    renamed = {
        f"vision_tower.{name}": tensor.to(dtype)
        for name, tensor in tensors.items()
        if name.startswith("vision_model.")
    }
    return {**renamed, "language_model.model.norm.weight": torch.ones(4, dtype=dtype)}


def test_a_policy_that_kept_its_encoders_tower_is_scored_by_that_encoder(llava, clip, caplog):
    reference = f"from-policy:{llava},{clip}"
    with caplog.at_level(logging.INFO):
        own, published = load(reference), load(f"hf:{clip}")
    pictures, words = VERIFIERS.TINY.images((64, 48), (31, 77)), ["dog", "umbrella"]
    for one, other in (
        (
            m.embed_images([m.prepare_image(picture) for picture in pictures])
            for m in (own, published)
        ),
        (m.embed_texts([m.prepare_text(word) for word in words]) for m in (own, published)),
    ):
        np.testing.assert_array_equal(one, other)
    assert own.info == published.info.model_copy(update={"id": reference})
    assert f"tensors equal those of hf:{clip}" in caplog.text


def test_a_policy_with_another_tower_is_refused_and_told_what_differs(strange, clip):
    message = refusal(f"from-policy:{strange},{clip}")
    assert re.search(rf"{strange}: 15 of 39 tensors of its vision tower are not those", message)
    assert f"--similarity hf:{clip}" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_tensor_that_was_trained_further_is_named(dtype, clip, tmp_path):
    """By one part in a hundred, in any of the types that policies are published in."""
    config = json.loads((clip / "config.json").read_text())
    tensors = as_on_the_hub(load_file(clip / "model.safetensors"), dtype)
    policy = hand_made(tmp_path / "policy", {**LLAVA_15, **config, "model_type": "llava"}, tensors)
    load(f"from-policy:{policy},{clip}")
    trained = "encoder.layers.1.mlp.fc1.weight"
    moved = tensors[f"vision_tower.vision_model.{trained}"]
    moved *= 1 + 0.01 * torch.randn(moved.shape, generator=torch.Generator().manual_seed(0))
    hand_made(policy, config, tensors)
    message = refusal(f"from-policy:{policy},{clip}")
    assert "1 of 39 tensors" in message
    assert f"most of all {trained}" in message
    assert "trained further" in message


def test_weights_that_were_rounded_twice_still_agree(clip, tmp_path):
    tensors = as_on_the_hub(load_file(clip / "model.safetensors"), torch.float16)
    twice = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    config = json.loads((clip / "config.json").read_text())
    policy = hand_made(tmp_path / "policy", config, twice)
    assert load(f"from-policy:{policy},{clip}").info.dtype == "float32"


def test_a_tower_without_the_layers_that_a_policy_leaves_out_agrees(tmp_path):
    """LLaVA-OneVision holds SigLIP without its last layer and its head."""
    siglip = tmp_path / "siglip"
    siglip.mkdir()
    VERIFIERS.hf_siglip(siglip)
    tensors = as_on_the_hub(load_file(siglip / "model.safetensors"), torch.float16)
    kept = {n: t for n, t in tensors.items() if ".layers.1." not in n and ".head." not in n}
    assert 10 < len(kept) < len(tensors)
    policy = hand_made(tmp_path / "policy", ONEVISION, kept)
    published = load(f"hf:{siglip}").info
    assert load(f"from-policy:{policy},{siglip}").info.revision == published.revision


@pytest.mark.parametrize(
    ("config", "repository"),
    [
        (LLAVA_15, "openai/clip-vit-large-patch14-336"),
        (ONEVISION, "google/siglip-so400m-patch14-384"),
        (PALIGEMMA, "google/siglip-so400m-patch14-224"),
    ],
)
def test_published_encoders_are_found_by_the_policys_configuration(config, repository, tmp_path):
    policy = hand_made(tmp_path / "policy", config, {"a": torch.zeros(1)})
    reference = ModelReference.parse(f"from-policy:{policy}")
    assert encoder_of(reference, Checkpoint(policy)).repository == repository


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"model_type": "instructblip_vision_model"}, "instructblip_vision_model, which was not"),
        ({"model_type": "qwen2_5_vl_vision"}, "nothing can embed texts for it: serve another"),
        ({"hidden_size": 9, "model_type": "clip_vision_model"}, ",ENCODER, or serve another"),
        (None, "lacks vision_config: the model sees no images"),
    ],
)
def test_where_there_is_no_encoder_it_is_explained_before_anything_loads(vision, words, tmp_path):
    config = {"model_type": "llava", "vision_config": vision}
    policy = hand_made(tmp_path / "policy", config, {"a": torch.zeros(1)})
    with pytest.raises(ModelLoadError) as caught:
        ModelLoader(Settings(similarity=f"from-policy:{policy}"))
    assert words in str(caught.value)
    assert str(policy / "config.json") in str(caught.value)


def test_an_adapter_is_no_policy(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "an adapter is merged into its policy first" in refusal(f"from-policy:{tmp_path}")


def test_weights_without_any_tower_are_refused(clip, tmp_path):
    policy = hand_made(tmp_path / "policy", LLAVA_15, {"lm_head.weight": torch.zeros(2)})
    assert "no tensor of a vision tower" in refusal(f"from-policy:{policy},{clip}")


@pytest.mark.parametrize("broken", ["policy", "encoder"])
def test_a_broken_folder_is_named_before_anything_loads(broken, llava, clip, tmp_path):
    folders = {"policy": llava, "encoder": clip}
    folders[broken] = Path(shutil.copytree(folders[broken], tmp_path / "copy"))
    (file,) = folders[broken].glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelLoadError, match="copy it again") as caught:
        preflight("similarity", f"from-policy:{folders['policy']},{folders['encoder']}")
    assert str(file) in str(caught.value)


def test_policy_and_encoder_may_both_come_from_the_hub(llava, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    tiny = Tower("clip_vision_model", 32, 14, 28)
    monkeypatch.setattr(policy_tower, "ENCODERS", {tiny: "org/clip"})
    for name, folder in (("llava", llava), ("clip", clip)):
        commit = name[0] * 40
        cached = tmp_path / f"models--org--{name}"
        shutil.copytree(folder, cached / "snapshots" / commit)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    assert load("from-policy:org/llava").info.revision == "c" * 40


def test_a_lock_holds_policy_and_encoder(llava, clip, tmp_path):
    reference = f"from-policy:{llava},{clip}"
    WeightsFolder(tmp_path).fetch([f"hf:{clip}"])
    with pytest.raises(ModelLoadError, match=f"sightline weights fetch hf:{llava}"):
        check_locked([reference], tmp_path / LOCK_NAME)
    WeightsFolder(tmp_path).fetch([f"hf:{llava}"])
    check_locked([reference], tmp_path / LOCK_NAME)
