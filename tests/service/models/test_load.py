"""Folders that cannot be served: one clear error that names the file and the mend."""

import json
import shutil
import struct
import sys

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline_service.loading import ModelLoader
from sightline_service.models import preflight as checks
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.models.load import (
    ModelLoadError,
    load_detector,
    load_perplexity,
    load_similarity,
    preflight,
)
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.protocols import OutOfDeviceMemoryError
from sightline_service.settings import Settings

LOADERS = {
    "similarity": load_similarity,
    "detector": load_detector,
    "perplexity": load_perplexity,
}


def load(kind, reference, *, device="cpu", dtype="float32"):
    return LOADERS[kind](reference, device=device, dtype=dtype)


@pytest.fixture
def copies(clip_folder, owlvit_folder, llava_folder, open_clip_folder, tmp_path):
    """A fresh copy of a sound folder for each kind, and the reference that loads it."""
    folders = {
        "clip": (clip_folder, "similarity", "hf:"),
        "owlvit": (owlvit_folder, "detector", "hf:"),
        "llava": (llava_folder, "perplexity", "hf:"),
        "open_clip": (open_clip_folder, "similarity", "open_clip:local-dir:"),
    }
    made = {}
    for name, (source, kind, prefix) in folders.items():
        shutil.copytree(source, tmp_path / name)
        made[name] = (tmp_path / name, kind, f"{prefix}{tmp_path / name}")
    return made


NAMES = ["clip", "owlvit", "llava", "open_clip"]


def refusal(kind, reference, *, on_its_face=True):
    """What a loader says; and so does the check before the port opens, where the fault shows."""
    with pytest.raises(ModelLoadError) as caught:
        load(kind, reference)
    if on_its_face:
        with pytest.raises(ModelLoadError) as early:
            preflight(kind, reference)
        assert str(early.value) == str(caught.value)
    return str(caught.value)


def weights_of(folder):
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_copy_loads(name, copies):
    _, kind, reference = copies[name]
    assert load(kind, reference).info.id == reference


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_is_named(name, copies):
    folder, kind, reference = copies[name]
    shutil.rmtree(folder)
    assert f"{folder} is not a folder" in refusal(kind, reference)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_place_of_a_folder_is_refused(name, copies):
    folder, kind, reference = copies[name]
    file = weights_of(folder)
    assert f"{file} is a file" in refusal(kind, reference.replace(str(folder), str(file)))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_refused(name, copies):
    folder, kind, reference = copies[name]
    for file in folder.iterdir():
        file.unlink()
    assert f"{folder} lacks" in refusal(kind, reference)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated_weights_are_named(name, kept, copies):
    folder, kind, reference = copies[name]
    file = weights_of(folder)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    message = refusal(kind, reference)
    assert str(file) in message
    assert "copy it again" in message


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_are_named(name, copies):
    folder, kind, reference = copies[name]
    weights_of(folder).unlink()
    assert f"{folder} has no *.safetensors" in refusal(kind, reference)


@pytest.mark.parametrize("name", NAMES)
def test_pickled_weights_are_refused_and_never_read(name, copies):
    folder, kind, reference = copies[name]
    weights_of(folder).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04a pickle that must not be opened")
    message = refusal(kind, reference)
    assert str(folder / "pytorch_model.bin") in message
    assert "convert it to safetensors" in message


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_git_lfs_left_behind_are_named(name, copies):
    folder, kind, reference = copies[name]
    weights_of(folder).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refusal(kind, reference)


@pytest.mark.parametrize("name", NAMES)
def test_weights_with_a_monstrous_header_are_named(name, copies):
    folder, kind, reference = copies[name]
    file = weights_of(folder)
    file.write_bytes(struct.pack("<Q", 2**60) + file.read_bytes())
    assert str(file) in refusal(kind, reference)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_lack_a_tensor_are_refused_and_not_filled_up(name, copies):
    folder, kind, reference = copies[name]
    file = weights_of(folder)
    tensors = load_file(file)
    dropped = next(key for key in sorted(tensors) if "mlp" in key and "weight" in key)
    del tensors[dropped]
    save_file(tensors, file, metadata={"format": "pt"})
    assert dropped.split(".")[-2] in refusal(kind, reference, on_its_face=False)


@pytest.mark.parametrize("name", ["clip", "owlvit", "llava"])
def test_a_missing_tokenizer_is_named(name, copies):
    folder, kind, reference = copies[name]
    for file in folder.glob("tokenizer*"):
        file.unlink()
    message = refusal(kind, reference)
    assert "lacks tokenizer.json" in message
    assert "tokenizer into this folder" in message


@pytest.mark.parametrize("name", ["clip", "owlvit", "llava"])
def test_missing_image_preprocessing_is_refused_and_never_guessed(name, copies):
    folder, kind, reference = copies[name]
    for file in folder.glob("*processor_config.json"):
        file.unlink()
    assert "preprocessing is never guessed" in refusal(kind, reference)


@pytest.mark.parametrize("name", ["clip", "owlvit", "llava"])
def test_a_missing_config_is_named(name, copies):
    folder, kind, reference = copies[name]
    (folder / "config.json").unlink()
    assert f"{folder} lacks config.json" in refusal(kind, reference)


@pytest.mark.parametrize("name", ["clip", "owlvit", "llava"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": 3}', '{"model_type": "odd"}'])
def test_a_broken_config_is_named(name, content, copies):
    folder, kind, reference = copies[name]
    (folder / "config.json").write_text(content)
    assert str(folder / "config.json") in refusal(kind, reference)


@pytest.mark.parametrize("missing", ["open_clip_config.json", "preprocess_cfg", "mean", "text_cfg"])
def test_open_clip_weights_without_a_full_config_are_refused(missing, copies):
    folder, kind, reference = copies["open_clip"]
    file = folder / "open_clip_config.json"
    if missing == file.name:
        file.unlink()
    else:
        config = json.loads(file.read_text())
        for level in (config, config["preprocess_cfg"], config["model_cfg"]):
            level.pop(missing, None)
        file.write_text(json.dumps(config))
    message = refusal(kind, reference)
    assert missing in message
    assert "never guessed" in message


def test_open_clip_weights_under_another_name_are_refused(copies):
    folder, kind, reference = copies["open_clip"]
    weights_of(folder).rename(folder / "mine.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"which open_clip would prefer")
    assert "lacks open_clip_model.safetensors" in refusal(kind, reference)


def test_an_open_clip_name_or_tag_that_does_not_exist_is_refused():
    message = refusal("similarity", "open_clip:ViT-X/openai", on_its_face=False)
    assert "has no pretrained model 'ViT-X'" in message
    with pytest.raises(ModelLoadError, match="has no model 'ViT-X'"):
        preflight("similarity", "open_clip:ViT-X/openai")
    message = refusal("similarity", "open_clip:ViT-B-32/mine", on_its_face=False)
    assert "no tag 'mine': use one of openai" in message


@pytest.fixture
def tagged(open_clip_folder, tmp_path, monkeypatch):
    """A model of open_clip's own registry, whose tag says how it was trained."""
    config = json.loads((open_clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    tag = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "quick_gelu": True}
    tag["file"] = str(open_clip_folder / "open_clip_model.safetensors")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"made": tag})
    return tag


def test_a_tag_decides_preprocessing_and_activation(tagged, mixed_images):
    served = load("similarity", "open_clip:tiny/made")
    reference = open_clip.create_model(
        "tiny", pretrained=tagged["file"], force_quick_gelu=True
    ).eval()
    transform = open_clip.image_transform(
        32, is_train=False, mean=tagged["mean"], std=tagged["std"]
    )
    with torch.inference_mode():
        pixels = transform(mixed_images[0])[None]
        expected = reference.encode_image(pixels, normalize=True).numpy()
    ours = served.embed_images([served.prepare_image(mixed_images[0])])
    np.testing.assert_allclose(ours, expected, atol=1e-3)  # resized on bytes: test_byte_resize.py
    assert served.info.revision.startswith("sha256:")


def test_a_tag_whose_weights_are_a_pickle_is_refused(tagged):
    tagged["file"] = "/weights/tiny.pt"
    message = refusal("similarity", "open_clip:tiny/made", on_its_face=False)
    assert "/weights/tiny.pt is a pickle" in message


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("clip", "detector", "no detector that is served"),
        ("clip", "perplexity", "does not write text"),
        ("llava", "similarity", "does not embed"),
        ("owlvit", "perplexity", "does not write text"),
        ("llava", "detector", "no detector that is served"),
    ],
)
def test_a_model_of_another_kind_is_refused(name, kind, words, copies):
    _, _, reference = copies[name]
    assert words in refusal(kind, reference)


def test_a_detector_that_crops_its_images_is_refused(copies):
    folder, kind, reference = copies["owlvit"]
    (file,) = folder.glob("*processor_config.json")
    settings = json.loads(file.read_text())
    settings.get("image_processor", settings)["do_center_crop"] = True
    file.write_text(json.dumps(settings))
    assert "set do_center_crop to false" in refusal(kind, reference, on_its_face=False)


@pytest.mark.parametrize("patch_size", [None, 4])
def test_a_processor_that_disagrees_with_its_model_is_refused(patch_size, copies):
    folder, kind, reference = copies["llava"]
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "patch_size": patch_size}))
    assert f"cannot be loaded from {folder}" in refusal(kind, reference, on_its_face=False)


@pytest.mark.parametrize("kind", ["similarity", "perplexity"])
def test_an_original_grounding_dino_serves_as_detector_only(kind):
    assert f"cannot serve as {kind} model" in refusal(kind, "groundingdino:config.py,weights.pth")


def test_an_original_grounding_dino_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "groundingdino", None)
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    config, weights = tmp_path / "config.py", tmp_path / "weights.pth"
    reference = f"groundingdino:{config},{weights}"
    assert f"there is no file {config}" in refusal("detector", reference)
    torch.save({}, weights)
    config.write_text("import os")
    assert "line 1 is no assignment" in refusal("detector", reference)
    config.write_text("text_encoder_type = 'bert'")
    assert "sightline[groundingdino]" in refusal("detector", reference)


@pytest.mark.parametrize("kind", ["detector", "perplexity"])
def test_open_clip_serves_similarity_only(kind):
    assert f"cannot serve as {kind} model" in refusal(kind, "open_clip:ViT-B-32/openai")


def test_fakes_load_without_torch():
    assert isinstance(load("similarity", "fake"), FakeSimilarity)
    assert isinstance(load("detector", "fake"), FakeDetector)
    assert isinstance(load("perplexity", "fake"), FakePerplexity)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An offline cache of the hub with nothing in it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_repository_that_is_not_cached_is_named_when_offline(hub):
    message = refusal("similarity", "hf:org/clip")
    assert "the hub did not give org/clip" in message


@pytest.mark.parametrize("name", ["clip", "open_clip"])
def test_a_cached_repository_is_served_offline_with_its_commit(name, hub, copies):
    folder, kind, _ = copies[name]
    commit = "0123456789" * 4
    cached = hub / "models--org--name"
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    prefix = "hf:" if name == "clip" else "open_clip:hf-hub:"
    assert load(kind, f"{prefix}org/name").info.revision == commit


@pytest.mark.parametrize(
    ("device", "dtype", "words"),
    [
        ("tpu9", "auto", "'tpu9' is unknown"),
        ("cpu", "float8", "'float8' is unknown: use auto, float32"),
        ("cpu", "float16", "float16 is for GPUs, and the models would run on the CPU"),
        ("meta", "auto", "'meta' is unknown: use auto, cpu, cuda, cuda:1 or mps"),
    ],
)
def test_an_unknown_device_or_dtype_is_refused(device, dtype, words):
    with pytest.raises(ModelLoadError, match=words):
        Placement.resolve(device, dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_cuda_auto_is_float32_on_the_cpu_and_cuda_is_refused():
    assert Placement.resolve("auto", "auto") == Placement(torch.device("cpu"), torch.float32)
    with pytest.raises(ModelLoadError, match="torch sees no CUDA"):
        Placement.resolve("cuda", "auto")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError("no room"),
    ],
)
def test_every_kind_of_memory_shortage_becomes_one_error(error):
    with pytest.raises(OutOfDeviceMemoryError, match=r"memory|room"), forward_pass():
        raise error


def test_other_errors_pass_and_no_gradient_is_kept():
    with pytest.raises(RuntimeError, match="shape"), forward_pass():
        raise RuntimeError("shape mismatch")
    with forward_pass():
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_real_allocation_that_cannot_succeed_is_an_out_of_memory_error():
    with pytest.raises(OutOfDeviceMemoryError), forward_pass():
        torch.empty(2**60, dtype=torch.uint8)


def test_the_revision_follows_the_weights(copies):
    folder, kind, reference = copies["clip"]
    before = load(kind, reference).info
    tensors = load_file(weights_of(folder))
    key = sorted(tensors)[0]
    tensors[key] = tensors[key] + np.float32(0.5)
    save_file(tensors, weights_of(folder), metadata={"format": "pt"})
    after = load(kind, reference).info
    assert before.revision != after.revision
    assert before.preprocess == after.preprocess


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda"}, "torch sees no CUDA: use auto or cpu"),
        ({"device": "mps"}, "torch sees no Apple GPU: use auto or cpu"),
        ({"dtype": "float16"}, "use float32 or bfloat16, or a machine with a GPU"),
    ],
)
def test_what_only_a_gpu_can_do_is_refused_before_the_port_opens(settings, words):
    fakes = dict.fromkeys(("similarity", "detector", "perplexity"), "fake")
    with pytest.raises(ModelLoadError, match=words):
        ModelLoader(Settings(**fakes, **settings))
