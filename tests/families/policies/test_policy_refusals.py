"""What cannot be trained or served is refused in one line that says what would do."""

import json
import shutil

import huggingface_hub
import pytest
import torch
import transformers

from sightline_service.models.checkpoint import open_checkpoint
from sightline_service.models.load import ModelLoadError, load_perplexity
from sightline_service.models.protocols import TextRefusedError
from sightline_service.models.reference import ModelReference
from sightline_trainers.policy import PolicyConfig, load_policy


def train(folder, **changes):
    load_policy(PolicyConfig(model=str(folder), lora_rank=2, lora_alpha=4, **changes), seed=0)


def serve(folder):
    return load_perplexity(f"hf:{folder}", device="cpu", dtype="float32")


@pytest.fixture
def renamed(tiny, models, tmp_path):
    """A LLaVA's folder whose configuration says that it is something else."""

    def folder(model_type):
        shutil.copytree(tiny(models.llava), tmp_path / model_type)
        path = tmp_path / model_type / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": model_type}))
        return path.parent

    return folder


@pytest.mark.parametrize("model_type", ["llava_llama", "vila"])
def test_vila_is_of_an_architecture_that_the_library_does_not_have(renamed, model_type):
    said = f"architecture '{model_type}', which transformers .* does not have"
    folder = renamed(model_type)
    with pytest.raises(ValueError, match=f"{said}.*llava-hf/llava-1.5-7b-hf"):
        train(folder)
    with pytest.raises(ModelLoadError, match=said):
        serve(folder)


def test_a_text_only_model_is_served_and_not_trained(tiny, models):
    folder = tiny(models.causal_lm)
    with pytest.raises(ValueError, match="is a llama model, which answers no question about an"):
        train(folder)
    served = serve(folder)
    prepared = served.prepare(None, "What?", "A cat is on the table.")
    (scores,) = served.score([prepared])
    ids, start = list(prepared.data.ids), prepared.data.start
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert ids == tokenizer("What? A cat is on the table.")["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    wanted = [log_p[place - 1, ids[place]].item() for place in range(start, len(ids))]
    assert scores.log_probs.tolist() == pytest.approx(wanted, abs=1e-4)


def test_an_encoder_and_a_decoder_are_refused(tiny, models, tmp_path):
    shutil.copytree(tiny(models.instructblip), tmp_path / "t5")
    path = tmp_path / "t5/config.json"
    config = transformers.T5Config(vocab_size=64, d_model=32, d_ff=48, num_layers=1, num_heads=2)
    text = {**config.to_dict(), "is_encoder_decoder": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "text_config": text}))
    with pytest.raises(ValueError, match="answers with an encoder and a decoder"):
        train(tmp_path / "t5")
    with pytest.raises(ModelLoadError, match="an encoder and a decoder"):
        serve(tmp_path / "t5")


def test_a_package_that_a_processor_lacks_is_named(tiny, models, monkeypatch):
    """As SmolVLM's, which wants num2words."""

    def lacking(*_, **__):
        raise ImportError("Package `num2words` is required to run SmolVLM processor.")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lacking)
    with pytest.raises(ValueError, match="processor that fails: Package `num2words` is required"):
        train(tiny(models.llava))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        train(tmp_path / "nowhere")


def test_a_prompt_beyond_the_q_formers_context_is_refused(tiny, models, images):
    folder = tiny(models.instructblip)
    policy = load_policy(PolicyConfig(model=str(folder), lora_rank=2), seed=0)
    fits = "a " * 126
    policy.prompts.encode(images[0], fits)
    with pytest.raises(ValueError, match=r"129 tokens for the Q-Former, more than its 128"):
        policy.prompts.encode(images[0], fits + "a")
    served = serve(folder)
    served.score([served.prepare(images[0], fits, "A cat.")])
    with pytest.raises(TextRefusedError, match=r"129 tokens for the Q-Former, more than its 128"):
        served.prepare(images[0], fits + "a", "A cat.")


def test_a_processor_that_cannot_count_an_images_tokens_is_refused(tiny, models, monkeypatch):
    """As those that were saved before processors had a configuration of their own."""
    folder = tiny(models.llava)
    old = transformers.AutoProcessor.from_pretrained(folder)
    old.patch_size = None
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_, **__: old)
    with pytest.raises(ValueError, match="without patch_size.*processor_config.json"):
        train(folder)


def test_the_hub_is_asked_for_the_second_tokenizer_and_no_other_subfolder(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *_, **options: asked.update(options) or tmp_path,
    )
    open_checkpoint(ModelReference.parse("hf:Salesforce/instructblip-vicuna-7b"))
    offered = ["config.json", "model.safetensors", "model.bin", "qformer_tokenizer/vocab.txt"]
    offered += ["onnx/model.json", "quantized/config.json", "qformer_tokenizer/tokenizer.json"]
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    fetched = list(huggingface_hub.utils.filter_repo_objects(offered, **patterns))
    assert fetched == [*offered[:2], offered[3], offered[6]]


def test_a_processor_without_a_token_for_images_is_refused(tiny, models, monkeypatch):
    folder = tiny(models.llava)
    bare = transformers.AutoProcessor.from_pretrained(folder)
    bare.image_token = None
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_, **__: bare)
    with pytest.raises(ValueError, match="names no token that stands for an image"):
        train(folder)
