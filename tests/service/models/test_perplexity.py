"""Teacher-forced log-probabilities against one forward per token, and against generation."""

import random

import numpy as np
import pytest
import torch
import transformers

from sightline_service.models.load import load_perplexity
from sightline_service.models.protocols import TextRefusedError

PROMPT = "the large red bus?"
TEXTS = [
    "A dog.",
    "two cats sit on a table",
    "x",
    " a space first",
    "An über 🐶 café e\u0301, ok.",
    "a dog and a cat and a horse and a man and a woman on the grass under the sky",
]


def load(folder, dtype="float32"):
    return load_perplexity(f"hf:{folder}", device="cpu", dtype=dtype)


@pytest.fixture(scope="module")
def folders(llava_folder, llava_metaspace_folder, llava_plain_folder, llama_folder):
    return {
        "llava": llava_folder,
        "metaspace": llava_metaspace_folder,
        "plain": llava_plain_folder,
        "llama": llama_folder,
    }


@pytest.fixture(scope="module")
def served(folders):
    return {kind: load(folder) for kind, folder in folders.items()}


def score(model, text, *, image=None, prompt=None):
    return model.score([model.prepare(image, prompt, text)])[0]


def user_turn(prompt):
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def one_forward_per_token(model, ids, start, **images):
    log_probs = []
    with torch.inference_mode():
        for place in range(start, len(ids)):
            logits = model(input_ids=torch.tensor([ids[:place]]), **images).logits
            log_probs.append(float(torch.log_softmax(logits[0, -1].float(), -1)[ids[place]]))
    return log_probs


@pytest.mark.parametrize("kind", ["llava", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_log_probs_equal_generations_own_scores(kind, text, folders, served, mixed_images):
    folder, image = folders[kind], mixed_images[0]
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    rendered = processor.apply_chat_template(user_turn(PROMPT), add_generation_prompt=True)
    assert rendered.endswith("ASSISTANT:")
    inputs = processor(images=image, text=rendered, add_special_tokens=False, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    dialogue = served[kind].prepare(image, PROMPT, text).data
    assert list(dialogue.ids[:length]) == inputs["input_ids"][0].tolist()
    answer = dialogue.ids[length:]
    assert dialogue.start == length
    assert processor.tokenizer.decode(answer).strip() == text.strip()
    generated = model.generate(
        **inputs,
        max_new_tokens=len(answer),
        min_new_tokens=len(answer),
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        prefix_allowed_tokens_fn=lambda batch, ids: [
            answer[min(len(ids) - length, len(answer) - 1)]
        ],
    )
    assert generated.sequences[0, length:].tolist() == list(answer)
    expected = [
        float(torch.log_softmax(logits[0].float(), -1)[token])
        for logits, token in zip(generated.logits, answer, strict=True)
    ]
    ours = score(served[kind], text, image=image, prompt=PROMPT)
    np.testing.assert_allclose(ours.log_probs, expected, atol=1e-4)
    assert np.ptp(ours.log_probs) > 0.1 or len(ours.log_probs) == 1


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_only_model_equals_one_forward_per_token(text, folders, served):
    model = transformers.AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["llama"])
    dialogue = served["llama"].prepare(None, None, text).data
    assert list(dialogue.ids) == tokenizer(text)["input_ids"]
    expected = one_forward_per_token(model, list(dialogue.ids), 1)
    np.testing.assert_allclose(score(served["llama"], text).log_probs, expected, atol=1e-5)


def test_the_begin_token_occurs_once_and_no_end_token(folders, served, mixed_images):
    for kind, model in served.items():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
        images = [None, *([] if kind == "llama" else [mixed_images[0]])]
        for image in images:
            for prompt in (None, PROMPT):
                ids = model.prepare(image, prompt, "a dog").data.ids
                assert ids[0] == tokenizer.bos_token_id
                assert ids.count(tokenizer.bos_token_id) == 1
                assert tokenizer.eos_token_id not in ids


def test_a_prompt_changes_the_scores_of_a_text_and_so_does_an_image(served, mixed_images):
    model = served["llava"]
    seen = [
        score(model, "a dog", image=image, prompt=prompt).log_probs.sum()
        for image in (None, mixed_images[0], mixed_images[3])
        for prompt in (None, PROMPT)
    ]
    assert len({round(float(value), 4) for value in seen}) == 6


def test_a_prompt_without_a_template_is_used_as_it_is_after_the_images_marker(
    folders, served, mixed_images
):
    processor = transformers.AutoProcessor.from_pretrained(folders["plain"])
    for prompt in ("USER: the dog ASSISTANT:", "USER: <image>\nthe dog ASSISTANT:"):
        whole = prompt if "<image>" in prompt else "<image>" + prompt
        expected = processor(images=mixed_images[0], text=whole, return_tensors="pt")
        dialogue = served["plain"].prepare(mixed_images[0], prompt, "A cat").data
        assert list(dialogue.ids[: dialogue.start]) == expected["input_ids"][0].tolist()
    text_only = served["plain"].prepare(None, "USER: the dog ASSISTANT:", "A cat").data
    expected = processor.tokenizer("USER: the dog ASSISTANT:")["input_ids"]
    assert list(text_only.ids[: text_only.start]) == expected


@pytest.mark.parametrize("kind", ["llava", "metaspace", "llama"])
@pytest.mark.parametrize("text", TEXTS)
def test_offsets_cover_the_text_in_order(kind, text, served):
    for prompt in (None, PROMPT):
        scores = score(served[kind], text, prompt=prompt)
        assert len(scores.offsets) == len(scores.log_probs)
        starts = [start for start, _ in scores.offsets]
        assert starts == sorted(starts)
        covered = {at for start, end in scores.offsets for at in range(start, end)}
        letters = {at for at, letter in enumerate(text) if not letter.isspace()}
        assert letters <= covered <= set(range(len(text)))


def test_the_byte_pieces_of_one_emoji_share_its_range(served):
    scores = score(served["llava"], "a 🐶", prompt=PROMPT)
    shared = [offset for offset in scores.offsets if offset == (2, 3)]
    assert len(shared) >= 3
    assert scores.offsets[0] == (0, 1)


def test_prompt_and_answer_that_would_merge_keep_the_prompts_own_tokens(folders, served):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["llama"])
    prompt = "the "
    dialogue = served["llama"].prepare(None, prompt, "dog").data
    assert list(dialogue.ids[: dialogue.start]) == tokenizer(prompt)["input_ids"]
    assert dialogue.offsets[0][0] == 0
    assert dialogue.offsets[-1][1] == 3
    assert tokenizer.decode(dialogue.ids[dialogue.start :]) == "dog"


@pytest.mark.parametrize("kind", ["llava", "metaspace", "plain", "llama"])
def test_log_probs_do_not_depend_on_neighbours_or_order(kind, served, mixed_images):
    model = served[kind]
    source = random.Random(5)
    takes_image = kind != "llama"
    prepared = [
        model.prepare(
            source.choice(mixed_images) if takes_image and source.random() < 0.7 else None,
            source.choice([PROMPT, "a dog", None]),
            source.choice(TEXTS),
        )
        for _ in range(24)
    ]
    alone = [model.score([one])[0] for one in prepared]
    for group in {one.group for one in prepared}:
        places = [place for place, one in enumerate(prepared) if one.group == group]
        source.shuffle(places)
        together = model.score([prepared[place] for place in places])
        assert len(places) > 1
        for place, scores in zip(places, together, strict=True):
            assert scores.offsets == alone[place].offsets
            np.testing.assert_allclose(scores.log_probs, alone[place].log_probs, atol=1e-4)


@pytest.mark.parametrize("kind", ["llava", "metaspace", "plain", "llama"])
def test_texts_of_one_item_score_in_a_batch_of_many_as_they_do_alone(kind, served, mixed_images):
    model = served[kind]
    images = [None] * 3 if kind == "llama" else [mixed_images[place] for place in (0, 2, 7)]
    items = [
        model.prepare_each(image, prompt, TEXTS)
        for image in images
        for prompt in (PROMPT * 3, f"a dog {PROMPT}")
    ]
    batch = [each for item in items for each in item]
    random.Random(3).shuffle(batch)
    for prepared, scores in zip(batch, model.score(batch), strict=True):
        (alone,) = model.score([prepared])
        assert scores.offsets == alone.offsets
        np.testing.assert_allclose(scores.log_probs, alone.log_probs, atol=1e-4)


def test_texts_of_one_item_share_the_cost_of_image_and_prompt(served, mixed_images):
    model = served["llava"]
    together = model.prepare_each(mixed_images[0], PROMPT, TEXTS)
    before = len(together[0].data.opening.ids)
    for prepared in together:
        assert prepared.cost == len(prepared.data.answer) + -(-before // len(TEXTS))


def test_a_text_beyond_the_context_is_refused_with_the_limit(served):
    fits = "a" + " a" * 126
    assert len(score(served["llama"], fits).log_probs) == 127
    with pytest.raises(TextRefusedError, match=r"1 \+ 128 tokens.*context of 128"):
        served["llama"].prepare(None, None, fits + " a")


def test_the_images_marker_in_a_text_or_prompt_is_refused(served, mixed_images):
    for kind in ("llava", "plain"):
        with pytest.raises(TextRefusedError, match="<image> stands for the image"):
            served[kind].prepare(mixed_images[0], PROMPT, "a <image> dog")
        with pytest.raises(TextRefusedError, match="<image> stands for the image"):
            served[kind].prepare(None, "<image>", "a dog")
    with pytest.raises(TextRefusedError, match="<image> stands for the image"):
        served["llava"].prepare(mixed_images[0], "see <image>", "a dog")


def test_an_image_for_a_text_only_model_is_refused(served, mixed_images):
    assert not served["llama"].takes_image
    assert served["llava"].takes_image
    assert not served["llava"].needs_image
    with pytest.raises(TextRefusedError, match="leave out the image"):
        served["llama"].prepare(mixed_images[0], None, "a dog")


def test_the_cost_counts_image_tokens(served, mixed_images):
    with_image = served["llava"].prepare(mixed_images[0], PROMPT, "a dog")
    without = served["llava"].prepare(None, PROMPT, "a dog")
    # 32 x 32 pixels in patches of 8 are 16 tokens, and the template adds a line break.
    assert with_image.cost - without.cost >= 16
    assert with_image.cost == len(with_image.data.ids)


def test_bfloat16_scores_stay_near_float32(folders, served):
    half = load(folders["llama"], "bfloat16")
    full = score(served["llama"], TEXTS[1]).log_probs
    np.testing.assert_allclose(score(half, TEXTS[1]).log_probs, full, atol=0.15)


def test_an_image_is_preprocessed_once_for_all_its_texts(served, mixed_images):
    model = served["llava"]
    together = model.prepare_each(mixed_images[0], PROMPT, TEXTS)
    for text, prepared in zip(TEXTS, together, strict=True):
        assert prepared.data.opening is together[0].data.opening
        assert prepared.data.ids == model.prepare(mixed_images[0], PROMPT, text).data.ids
