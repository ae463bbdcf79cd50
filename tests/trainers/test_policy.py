"""The policy on a tiny LLaVA: prompts, sampling, log-probabilities, reference, export."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline_trainers.logprobs import token_log_probs
from sightline_trainers.policy import (
    PolicyConfig,
    RowNoise,
    Sampling,
    export_adapter,
    export_merged,
    load_policy,
)
from sightline_trainers.prompts import PromptFormat, collate

CPU = torch.device("cpu")
QUESTIONS = ["Describe the image.", "What?", "What is on the table, and where?"]


def picture(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


@pytest.fixture
def policy(tiny_llava):
    config = PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8)
    return load_policy(config, seed=0).eval()


@pytest.fixture
def prompts(policy):
    return [policy.prompts.encode(picture(n), text) for n, text in enumerate(QUESTIONS)]


def bend(policy):
    """Gives the adapter an effect, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))


def test_the_begin_token_occurs_once_whether_or_not_the_template_writes_it(tiny_llava):
    processor = AutoProcessor.from_pretrained(tiny_llava)
    own = PromptFormat(processor)
    doubled = PromptFormat(processor, template="{{ bos_token }}" * 2 + processor.chat_template)
    text = own.render("Describe the image.")
    assert text == "<s>USER: <image>\nDescribe the image. ASSISTANT:"
    assert doubled.render("Describe the image.") == text
    ids = own.encode(picture(0), "Describe the image.")["input_ids"][0].tolist()
    assert ids.count(processor.tokenizer.bos_token_id) == 1
    assert ids.count(processor.tokenizer.eos_token_id) == 0


def test_a_prompt_that_holds_the_images_marker_is_refused(policy):
    with pytest.raises(ValueError, match="<image>"):
        policy.prompts.render("What is <image>?")


def test_samples_put_together_equal_the_processors_own_batch(policy, prompts):
    processor = policy.prompts.processor
    wanted = processor(
        images=[picture(n) for n in range(3)],
        text=[policy.prompts.render(text) for text in QUESTIONS],
        add_special_tokens=False,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    batch = collate(prompts, policy.prompts.pad_id, CPU)
    assert set(batch) == set(wanted)
    for name, value in batch.items():
        assert torch.equal(value, wanted[name]), name


def test_tiles_of_different_counts_are_filled_up_with_zeros():
    one, three = torch.ones(1, 1, 3, 2, 2), torch.ones(1, 3, 3, 2, 2)
    ids = torch.ones(1, 4, dtype=torch.long)
    prompts = [{"input_ids": ids, "pixel_values": one}, {"input_ids": ids, "pixel_values": three}]
    batch = collate(prompts, 0, CPU)
    assert batch["pixel_values"].shape == (2, 3, 3, 2, 2)
    assert batch["pixel_values"].sum(dim=(1, 2, 3, 4)).tolist() == [12.0, 36.0]


def test_log_probs_equal_those_of_generation_step_by_step(policy, prompts):
    bend(policy)
    ids, mask = policy.sample(prompts, Sampling(8), [1, 2, 3])
    inputs = collate(prompts, policy.prompts.pad_id, CPU)
    with torch.no_grad():
        logits, _ = policy(inputs, ids, mask)
    found = token_log_probs(logits, ids)
    for row, prompt in enumerate(prompts):
        known = dict(prompt)
        for t in range(int(mask[row].sum())):
            with torch.no_grad():
                last = policy.model(**known).logits[0, -1].log_softmax(-1)
            assert found[row, t].item() == pytest.approx(last[ids[row, t]].item(), abs=1e-4)
            following = ids[row : row + 1, t : t + 1]
            known["input_ids"] = torch.cat([known["input_ids"], following], dim=1)
            known["attention_mask"] = torch.cat(
                [known["attention_mask"], torch.ones_like(following)], dim=1
            )


def test_what_a_row_samples_depends_on_its_seed_and_not_on_its_neighbours(policy, prompts):
    together, _ = policy.sample(prompts, Sampling(10), [7, 8, 9])
    alone, _ = policy.sample(prompts[1:2], Sampling(10), [8])
    other, _ = policy.sample(prompts[1:2], Sampling(10), [9])
    shortest = min(together.shape[1], alone.shape[1])
    assert together[1, :shortest].tolist() == alone[0, :shortest].tolist()
    assert alone.tolist() != other.tolist()


def test_the_noise_samples_from_the_softmax():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(4000, 4)
    noise = RowNoise(range(4000), CPU)
    drawn = noise(torch.zeros(4000, 1), scores).argmax(-1).bincount(minlength=4) / 4000
    assert torch.allclose(drawn, scores[0].softmax(-1), atol=0.03)


def test_the_image_token_is_never_sampled_and_rows_end_in_padding(policy, prompts):
    ids, mask = policy.sample(prompts * 8, Sampling(40, temperature=3.0), range(24))
    assert policy.model.config.image_token_id not in ids.unique().tolist()
    assert (ids[mask == 0] == policy.prompts.pad_id).all()
    ended = mask.sum(1) < mask.shape[1]
    assert ended.any()
    for row in range(24):
        length = int(mask[row].sum())
        assert mask[row].tolist() == [1] * length + [0] * (mask.shape[1] - length)
        assert bool(ended[row]) <= (ids[row, length - 1].item() in policy.end_ids)


def test_the_reference_is_the_model_before_training(policy, prompts, tiny_llava):
    plain = AutoModelForImageTextToText.from_pretrained(tiny_llava).eval()
    inputs = collate(prompts, policy.prompts.pad_id, CPU)
    bend(policy)
    ids = torch.tensor([[5, 6, 7]] * 3)
    with torch.no_grad():
        bent, _ = policy(inputs, ids, torch.ones_like(ids))
        with policy.reference():
            reference, _ = policy(inputs, ids, torch.ones_like(ids))
        whole = {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], 1)}
        whole["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(ids)], 1)
        whole["position_ids"] = (whole["attention_mask"].cumsum(1) - 1).clamp(min=0)
        wanted = plain(**whole).logits[:, -4:-1]
    assert torch.allclose(reference, wanted, atol=1e-5)
    assert not torch.allclose(bent, reference, atol=1e-2)


def test_only_the_language_model_is_adapted(policy):
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2
    assert all("language_model" in name and "lora" in name for name in trained)


@pytest.mark.parametrize(
    ("pattern", "said"), [(".*q_proj", "vision tower"), (".*nothing.*", "matches no linear map")]
)
def test_targets_outside_the_language_model_are_refused(tiny_llava, pattern, said):
    with pytest.raises(ValueError, match=said):
        load_policy(PolicyConfig(model=str(tiny_llava), lora_targets=pattern), seed=0)


def test_the_fresh_adapter_follows_from_the_seed(tiny_llava):
    config = PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8)
    first, again, other = (load_policy(config, seed=seed).state_dict() for seed in (3, 3, 4))
    names = [name for name in first if "lora_A" in name]
    assert all(torch.equal(first[name], again[name]) for name in names)
    assert not any(torch.equal(first[name], other[name]) for name in names)


def test_what_is_exported_loads_with_plain_transformers_and_answers_the_same(
    policy, prompts, tiny_llava, tmp_path
):
    bend(policy)
    inputs = dict(prompts[0])
    with torch.no_grad():
        wanted = policy.model(**inputs).logits
    export_adapter(policy, tmp_path / "adapter")
    export_merged(policy, tmp_path / "merged")
    base = AutoModelForImageTextToText.from_pretrained(tiny_llava)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert torch.allclose(merged(**inputs).logits, wanted, atol=1e-4)
        plain = base(**inputs).logits
    assert not torch.allclose(plain, wanted, atol=1e-2)
    with warnings.catch_warnings():  # peft asks for an attribute that transformers has renamed
        warnings.simplefilter("ignore", FutureWarning)
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(adapted(**inputs).logits, wanted, atol=1e-4)
    assert AutoProcessor.from_pretrained(tmp_path / "merged").chat_template


def test_a_value_head_starts_at_zero_and_learns(tiny_llava):
    config = PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8)
    policy = load_policy(config, seed=0, value_head=True)
    inputs = collate([policy.prompts.encode(picture(0), "What?")], policy.prompts.pad_id, CPU)
    ids = torch.tensor([[5, 6, 7]])
    _, values = policy(inputs, ids, torch.ones_like(ids))
    assert values.tolist() == [[0.0, 0.0, 0.0]]
    (values - 1).square().sum().backward()
    assert policy.value_head.weight.grad.abs().sum() > 0
