"""Adapters of each family: what is trained, that nothing else moves, and that they can be kept."""

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline_trainers.logprobs import token_log_probs
from sightline_trainers.policy import export_adapter, export_merged
from sightline_trainers.prompts import collate

ANSWER = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
OUTSIDE = ("vision", "visual", "projector", "projection", "merger", "connector", "qformer", "query")


def answered(policy, prompts):
    inputs = collate(prompts[:2], policy.prompts.pad_id, torch.device("cpu"))
    logits, _ = policy(inputs, ANSWER, torch.ones_like(ANSWER))
    return token_log_probs(logits, ANSWER)


def test_only_the_language_models_linear_maps_are_adapted(policy):
    trained = [name for name, each in policy.named_parameters() if each.requires_grad]
    assert len(trained) == 2 * 2 * 7  # A and B, of two layers, of q k v o gate up down
    assert all("lora" in name for name in trained)
    assert not [name for name in trained if any(part in name for part in OUTSIDE)]
    adapted = {name.rpartition(".lora_")[0] for name in trained}
    language_model = policy.prompts.family.language_model
    linears = {
        name
        for name, module in policy.named_modules()
        if isinstance(module, nn.Linear) and f"{language_model}." in name and "lora" not in name
    }
    left = {name for name in linears if name.removesuffix(".base_layer") not in adapted}
    assert {name.rpartition(".")[2] for name in left} <= {"lm_head"}


@pytest.mark.parametrize(
    "pattern", [".*", r".*(vision|visual).*", r".*(proj\w*or|merger|connector).*"]
)
def test_targets_outside_the_language_model_are_refused(load, pattern):
    with pytest.raises(ValueError, match=r"outside the language model|matches no linear map"):
        load(lora_targets=pattern)


def test_a_step_moves_the_adapter_and_nothing_else(load, prompts):
    policy = load()
    before = {name: each.clone() for name, each in policy.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-2)
    policy.train()
    (-answered(policy, prompts).sum()).backward()
    optimiser.step()
    moved = {
        name for name, each in policy.state_dict().items() if not torch.equal(each, before[name])
    }
    assert {name for name in before if "lora_B" in name} <= moved
    assert all("lora" in name for name in moved)


def test_learning_sees_the_network_that_sampled(load, prompts, bend):
    """Nothing is dropped at random, and recomputed activations give the same gradients."""
    plain, checkpointed = bend(load()), bend(load(gradient_checkpointing=True))
    gradients = []
    for policy in (plain, checkpointed):
        with torch.no_grad():
            sampled = answered(policy, prompts)
        policy.train()
        learnt = answered(policy, prompts)
        torch.testing.assert_close(learnt, sampled, atol=1e-5, rtol=0)
        learnt.sum().backward()
        gradients.append([p.grad for p in policy.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)
    assert all(each.abs().sum() > 0 for each in gradients[0])


@torch.no_grad()
def test_an_adapter_and_a_merged_model_load_with_the_plain_libraries(
    folder, load, bend, prompts, tmp_path
):
    policy = bend(load())
    inputs = dict(prompts[0])
    wanted = policy.model(**inputs).logits
    export_adapter(policy, tmp_path / "adapter")
    export_merged(policy, tmp_path / "merged")
    base = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert (base(**inputs).logits - wanted).abs().max() > 1e-2
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(adapted(**inputs).logits, wanted, atol=1e-4, rtol=0)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(**inputs).logits, wanted, atol=1e-4, rtol=0)
    for kept in ("adapter", "merged"):
        processor = AutoProcessor.from_pretrained(tmp_path / kept)
        assert processor.chat_template == policy.prompts.processor.chat_template
        assert processor.tokenizer.get_vocab() == policy.prompts.tokenizer.get_vocab()
