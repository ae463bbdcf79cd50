"""Log-probabilities of each family: those of generation, whatever the batch and its padding."""

import json
import shutil

import pytest
import torch

from sightline_trainers.continuations import SentenceSampler
from sightline_trainers.divergence import GapMeter
from sightline_trainers.logprobs import entropy, kl_divergence, token_log_probs
from sightline_trainers.policy import PolicyConfig, Sampling, load_policy
from sightline_trainers.prompts import collate

CPU = torch.device("cpu")
SEEDS = [1, 2, 3]


@torch.no_grad()
def scored(policy, prompts, ids, mask):
    logits, _ = policy(collate(prompts, policy.prompts.pad_id, CPU), ids, mask)
    return token_log_probs(logits, ids) * mask


def sampled(policy, prompts, monkeypatch):
    """What is sampled, its mask, and the log-probabilities that generation itself had of it."""
    generate, kept = policy.model.generate, []

    def keeping(**arguments):
        answer = generate(**arguments, output_logits=True, return_dict_in_generate=True)
        kept.append(torch.stack(answer.logits, dim=1))
        return answer.sequences

    monkeypatch.setattr(policy.model, "generate", keeping)
    ids, mask = policy.sample(prompts, Sampling(10), SEEDS)
    return ids, mask, token_log_probs(kept[0], ids) * mask


def test_teacher_forcing_gives_generations_own_log_probs(policy, prompts, monkeypatch):
    ids, mask, generated = sampled(policy, prompts, monkeypatch)
    torch.testing.assert_close(scored(policy, prompts, ids, mask), generated, atol=1e-4, rtol=0)
    assert generated.min() < -1  # the model prefers some tokens


def test_in_bfloat16_they_differ_by_little(load, bend, prompts, monkeypatch):
    policy = bend(load(dtype="bfloat16"))
    ids, mask, generated = sampled(policy, prompts, monkeypatch)
    torch.testing.assert_close(scored(policy, prompts, ids, mask), generated, atol=0.15, rtol=0)


def test_a_row_scores_the_same_alone_and_among_longer_ones(policy, prompts):
    ids, _ = policy.sample(prompts, Sampling(9), SEEDS)
    ids = torch.nn.functional.pad(ids, (0, 9 - ids.shape[1]), value=7)
    mask = torch.ones_like(ids)
    mask[0, 4:] = mask[1, 1:] = 0
    together = scored(policy, prompts, ids.masked_fill(mask == 0, policy.prompts.pad_id), mask)
    for row, prompt in enumerate(prompts):
        n = int(mask[row].sum())
        alone = scored(policy, [prompt], ids[row : row + 1, :n], mask[row : row + 1, :n])
        torch.testing.assert_close(together[row, :n], alone[0], atol=1e-4, rtol=0)


def test_a_row_samples_the_same_alone_and_in_a_batch(policy, prompts):
    together, mask = policy.sample(prompts, Sampling(8), SEEDS)
    for row, prompt in enumerate(prompts):
        alone, _ = policy.sample([prompt], Sampling(8), SEEDS[row : row + 1])
        n = int(mask[row].sum())
        assert alone[0, :n].tolist() == together[row, :n].tolist()


def test_the_image_changes_the_scores(policy, images):
    prompts = [policy.prompts.encode(image, "What?") for image in images[:2]]
    ids = torch.tensor([[5, 6, 7]] * 2)
    first, second = (scored(policy, [prompt], ids[:1], ids[:1] > 0) for prompt in prompts)
    assert (first - second).abs().max() > 1e-2


def test_tokens_that_stand_for_images_are_never_sampled(policy, prompts):
    never = list(policy.never_sampled)
    assert policy.model.config.image_token_id in never

    def eager(module, arguments, logits):
        del module, arguments
        logits = logits.clone()
        logits[..., never] = 50.0
        return logits

    handle = policy.model.get_output_embeddings().register_forward_hook(eager)
    try:
        ids, _ = policy.sample(prompts, Sampling(12, temperature=2.0), SEEDS)
        draws = SentenceSampler(policy, Sampling(6)).draw(prompts, [()] * 3, SEEDS)
    finally:
        handle.remove()
    assert not torch.isin(ids, torch.tensor(never)).any()
    assert not {token for draw in draws for token in draw.ids} & set(never)


@torch.no_grad()
def test_a_sentence_after_a_shared_prefix_has_the_policys_own_log_probs(policy, prompts):
    rows = [prompts[0], prompts[0], prompts[1], prompts[1]]
    prefixes = [(5, 6, 7), (5, 6, 7), (), (8,)]
    draws = SentenceSampler(policy, Sampling(6)).draw(rows, prefixes, [1, 2, 3, 4])
    for prompt, prefix, draw in zip(rows, prefixes, draws, strict=True):
        ids = torch.tensor([[*prefix, *draw.ids]])
        found = scored(policy, [prompt], ids, torch.ones_like(ids))[0, len(prefix) :]
        n_text = len(draw.ids) - draw.ended
        assert draw.language == pytest.approx(found[:n_text].mean().item(), abs=1e-4)


@torch.no_grad()
def test_a_window_of_attention_forgets_and_its_prefixes_are_not_shared(
    tiny, models, images, tmp_path
):
    shutil.copytree(tiny(models.llava_next_mistral), tmp_path / "windowed")
    path = tmp_path / "windowed/config.json"
    config = json.loads(path.read_text())
    config["text_config"]["sliding_window"] = 8
    path.write_text(json.dumps(config))
    policy = load_policy(PolicyConfig(model=str(path.parent), lora_rank=2), seed=0).eval()
    prompt = policy.prompts.encode(images[0], "What?")
    draws = SentenceSampler(policy, Sampling(6)).draw([prompt] * 2, [(5, 6, 7)] * 2, [1, 2])
    for draw in draws:
        ids = torch.tensor([[5, 6, 7, *draw.ids]])
        found = scored(policy, [prompt], ids, torch.ones_like(ids))[0, 3:]
        n_text = len(draw.ids) - draw.ended
        assert draw.language == pytest.approx(found[:n_text].mean().item(), abs=1e-4)


@torch.no_grad()
def test_gaps_between_prompts_are_those_of_the_logits(policy, prompts, images):
    others = [policy.prompts.encode(image, "A cat?") for image in images]
    ids, mask = policy.sample(prompts, Sampling(6), SEEDS)
    special = set(policy.prompts.tokenizer.all_special_ids)  # these are not counted
    drawn = [row[kept == 1].tolist() for row, kept in zip(ids, mask, strict=True)]
    answers = [[token for token in row if token not in special] for row in drawn]
    gaps = GapMeter(policy, minibatch=2, chunk=4).measure(prompts, others, answers)
    for prompt, other, answer, gap in zip(prompts, others, answers, gaps, strict=True):
        row = torch.tensor([answer])
        q, p = (policy(each, row, torch.ones_like(row))[0] for each in (prompt, other))
        assert pytest.approx(kl_divergence(q, p).sum().item(), rel=1e-3) == gap.S
        drop = (entropy(p) - entropy(q)).sum().item()
        assert pytest.approx(drop, rel=1e-3, abs=1e-3) == gap.Delta
