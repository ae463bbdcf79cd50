"""Drawing single sentences with a tiny LLaVA: where they end, what they cost, what they repeat."""

import numpy as np
import PIL.Image
import pytest
import torch

from sightline_trainers import judge
from sightline_trainers.continuations import SentenceSampler
from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.logprobs import token_log_probs
from sightline_trainers.policy import PolicyConfig, Sampling, load_policy
from sightline_trainers.prompts import collate

QUESTIONS = ["Describe the image.", "What?", "What is on the table, and where?"]
CPU = torch.device("cpu")


def picture(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


@pytest.fixture(scope="module")
def policy(tiny_llava):
    config = PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8)
    return load_policy(config, seed=0).eval()


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.prompts.encode(picture(n), text) for n, text in enumerate(QUESTIONS)]


@pytest.fixture
def say(policy, prompts):
    """Makes the model certain of one text, as if it wanted to say nothing else."""
    hooks = []

    def draw(text, *, prefix=(), **sampling):
        tokenizer = policy.prompts.tokenizer
        script = tokenizer.encode(text, add_special_tokens=False)
        position = iter(range(1000))

        def only_the_script(module, arguments, logits):
            n = next(position)
            wanted = script[n] if n < len(script) else tokenizer.eos_token_id
            certain = torch.full_like(logits, -100.0)
            certain[..., wanted] = 100.0
            return certain

        head = policy.model.get_output_embeddings()
        hooks.append(head.register_forward_hook(only_the_script))
        sampler = SentenceSampler(policy, Sampling(**{"max_new_tokens": 60, **sampling}))
        return sampler.draw(prompts[:2], [list(prefix)] * 2, [1, 2])

    yield draw
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A cat is here. There is a dog.", "A cat is here."),
        ("It weighs 3.5 kg. Then it sits.", "It weighs 3.5 kg."),
        ("Mr. Smith sat. He ate.", "Mr. Smith sat."),
        ("The U.S. flag is red. A man waves.", "The U.S. flag is red."),
        ("A cat! Two dogs.", "A cat!"),
        ("Is it a cat? No.", "Is it a cat?"),
        ("Two things:\nA cat", "Two things:"),
        ("A cat.\n\nA dog.", "A cat."),
        ('He said "Hi." Then he left.', 'He said "Hi."'),
        ("A dog.🐶 There is a cat.", "A dog.🐶"),
        ("Wait... and see. A cat.", "Wait... and see."),
    ],
)
def test_a_sentence_ends_where_the_next_begins(say, policy, text, first):
    for draw in say(text):
        assert draw.text == first
        assert not draw.ended
        assert policy.prompts.decode(list(draw.ids)).strip() == first


@pytest.mark.parametrize("text", ["A cat is here.", "A cat without a stop", "It weighs 3."])
def test_the_end_token_belongs_to_the_last_sentence(say, policy, text):
    for draw in say(text):
        assert draw.text == text
        assert draw.ended
        assert draw.ids[-1] == policy.prompts.tokenizer.eos_token_id
        assert draw.language == pytest.approx(0.0)


def test_a_sentence_without_an_end_is_cut_at_its_longest(say, policy):
    ids = policy.prompts.tokenizer.encode("A cat and a dog and a cat", add_special_tokens=False)
    for draw in say("A cat and a dog and a cat", max_new_tokens=5):
        assert draw.ids == tuple(ids[:5])
        assert not draw.ended
    for draw in say("A cat and a dog and a cat", max_new_tokens=len(ids)):
        assert draw.ids == (*ids, policy.prompts.tokenizer.eos_token_id)
        assert draw.ended


def separate_log_probs(policy, prompt, prefix, ids):
    whole = torch.tensor([[*prefix, *ids]])
    logits, _ = policy(collate([prompt], 0, CPU), whole, torch.ones_like(whole))
    return token_log_probs(logits, whole)[0, len(prefix) :]


@torch.no_grad()
def test_the_language_score_is_the_policys_own_mean_log_probability(policy, prompts):
    prefixes = [[], [40, 41, 42], [50] * 9]
    for temperature, top_p in ((1.0, 1.0), (0.5, 0.9)):
        sampler = SentenceSampler(policy, Sampling(12, temperature, top_p))
        draws = sampler.draw(prompts, prefixes, [5, 6, 7])
        for prompt, prefix, draw in zip(prompts, prefixes, draws, strict=True):
            n_text = len(draw.ids) - draw.ended
            expected = separate_log_probs(policy, prompt, prefix, draw.ids)[:n_text].mean()
            assert draw.language == pytest.approx(expected.item(), abs=1e-5)


def test_a_draw_depends_on_its_own_seed_alone(policy, prompts):
    sampler = SentenceSampler(policy, Sampling(12))
    prefixes = [[], [40, 41, 42], [50] * 9]
    together = sampler.draw(prompts, prefixes, [5, 6, 7])
    for prompt, prefix, seed, draw in zip(prompts, prefixes, [5, 6, 7], together, strict=True):
        (alone,) = sampler.draw([prompt], [prefix], [seed])
        assert alone.ids == draw.ids
        assert alone.language == pytest.approx(draw.language, abs=1e-5)
    assert sampler.draw(prompts, prefixes, [8, 9, 10])[0].ids != together[0].ids


def test_no_sentence_begins_with_the_end_or_holds_the_images_marker(policy, prompts):
    """The model wants nothing else; what is left of its probability decides."""
    tokenizer = policy.prompts.tokenizer
    image_id = policy.model.config.image_token_id

    def eager(module, arguments, logits):
        logits = logits.clone()
        logits[..., [tokenizer.eos_token_id, image_id]] = 50.0
        return logits

    hook = policy.model.get_output_embeddings().register_forward_hook(eager)
    try:
        draws = SentenceSampler(policy, Sampling(6)).draw(prompts, [[], [40], []], [1, 2, 3])
    finally:
        hook.remove()
    for draw in draws:
        assert len(draw.ids) == 2
        assert draw.ids[-1] == tokenizer.eos_token_id
        assert image_id not in draw.ids
        assert draw.language < -40


@torch.no_grad()
def test_completions_of_different_lengths_have_their_own_log_probabilities(policy, prompts):
    completions = [[40, 41], [50, 51, 52, 53, 2], [60]]
    found = completion_log_probs(policy, prompts, completions)
    for prompt, ids, log_prob in zip(prompts, completions, found, strict=True):
        expected = separate_log_probs(policy, prompt, [], ids).sum()
        assert log_prob.item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_judge_sees_the_prompt_of_table_3(policy):
    text = judge.QUESTION.format(first="A cat.", second="A dog.")
    assert text.startswith("Now you act as a judge, helping me determine which of the two texts I")
    assert "Response 1:\nA cat.\nResponse 2:\nA dog.\n" in text
    assert text.endswith("Output Format:\nresponse 1 or response 2.")


@torch.no_grad()
def test_a_judgement_has_no_favourite_place(policy):
    images = [picture(0), picture(1)]
    texts = [("A cat sits here.", "Two birds fly."), ("A dog.", "A cup.")]
    found = judge.preferences(policy, images, texts)
    turned = judge.preferences(policy, images, [(second, first) for first, second in texts])
    assert found == pytest.approx([-value for value in turned], abs=1e-5)
    assert all(found)
    for image, (first, second), value in zip(images, texts, found, strict=True):
        odds = []
        for pair in ((first, second), (second, first)):
            prompt = policy.prompts.encode(
                image, judge.QUESTION.format(first=pair[0], second=pair[1])
            )
            logs = [
                separate_log_probs(
                    policy,
                    prompt,
                    [],
                    policy.prompts.tokenizer.encode(answer, add_special_tokens=False),
                ).sum()
                for answer in judge.ANSWERS
            ]
            odds.append(logs[0] - logs[1])
        assert value == pytest.approx(((odds[0] - odds[1]) / 2).item(), abs=1e-4)


@pytest.mark.parametrize("can_share", [True, False])
def test_siblings_that_share_a_prefix_are_drawn_as_if_alone(
    policy, prompts, monkeypatch, can_share
):
    monkeypatch.setattr(SentenceSampler, "_can_share", can_share)
    sampler = SentenceSampler(policy, Sampling(8))
    rows = [(0, ()), (0, ()), (1, (40, 41)), (1, (40, 42)), (0, (40, 41)), (1, (40, 41)), (2, ())]
    seeds = range(len(rows))
    together = sampler.draw([prompts[n] for n, _ in rows], [ids for _, ids in rows], list(seeds))
    assert together[0].ids != together[1].ids
    for (n, prefix), seed, draw in zip(rows, seeds, together, strict=True):
        (alone,) = sampler.draw([prompts[n]], [prefix], [seed])
        assert alone.ids == draw.ids
        assert alone.language == pytest.approx(draw.language, abs=1e-5)
