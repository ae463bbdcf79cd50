"""Prompts of each family: templates, begin tokens, image tokens, against the library's own path."""

from itertools import groupby

import pytest
import torch
from transformers import AutoProcessor

from sightline_trainers.prompts import PromptFormat


def shown(policy, prompt):
    """The prompt as text; a run of one special token stands as one."""
    tokenizer = policy.prompts.tokenizer
    special = set(tokenizer.all_special_ids) | set(policy.never_sampled)
    kept = [
        token
        for token, run in groupby(prompt["input_ids"][0].tolist())
        for _ in range(1 if token in special else len(list(run)))
    ]
    return tokenizer.decode(kept, clean_up_tokenization_spaces=False)


def test_a_prompt_reads_as_the_family_was_trained(family, matrix, policy, prompts):
    # a decoder of marked spaces adds one after each special token
    assert shown(policy, prompts[0]).replace(" ", "") == matrix.FAMILIES[family].prompt.replace(
        " ", ""
    )


def test_a_prompt_is_that_of_the_librarys_own_path(policy, prompts, images, questions):
    processor = policy.prompts.processor
    for prompt, image, question in zip(prompts, images, questions, strict=True):
        if processor.chat_template:
            turn = [{"type": "image", "image": image}, {"type": "text", "text": question}]
            wanted = processor.apply_chat_template(
                [{"role": "user", "content": turn}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            marker = "" if "qformer_input_ids" in prompt else processor.image_token
            wanted = processor(images=image, text=marker + question, return_tensors="pt")
        assert set(prompt) == set(wanted) - {"labels"}
        for name, value in prompt.items():
            assert torch.equal(value, wanted[name]), name


def test_the_begin_token_occurs_once_and_an_answer_is_left_open(policy, prompts):
    tokenizer = policy.prompts.tokenizer
    for prompt in prompts:
        ids = prompt["input_ids"][0].tolist()
        if tokenizer.bos_token_id is not None:
            assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[-1] not in policy.end_ids


def test_a_template_with_a_system_prompt_and_two_begin_tokens_gives_one_of_each(
    folder, policy, images
):
    own, tokenizer = policy.prompts.processor.chat_template, policy.prompts.tokenizer
    if own is None:
        pytest.skip("the processor lays out prompts by itself")
    begin = tokenizer.bos_token or ""
    template = begin * 2 + "Be brief. " + own.removeprefix(begin)
    form = PromptFormat(AutoProcessor.from_pretrained(folder), template=template)
    text = form.render("What?")
    assert text.startswith(begin + "Be brief. ")
    assert text.count("Be brief.") == 1
    ids = form.encode(images[0], "What?")["input_ids"][0].tolist()
    if begin:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_question_that_holds_the_images_marker_is_refused(policy):
    marker = str(policy.prompts.processor.image_token)
    with pytest.raises(ValueError, match="stands for the image: remove it"):
        policy.prompts.render(f"What is {marker}?")
