"""The seam between prompt and answer: spaces, begin tokens, markers, for three tokenisers."""

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.models.dialogue import DialogueFormat
from sightline_service.models.protocols import TextRefusedError
from sightline_service.models.tokenizing import Tokenizer


def layout(folder, *, template=None, **changes):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return DialogueFormat(
        Tokenizer(tokenizer, max_tokens=128), None, chat_template=template is not None
    )


def pieces(folder, ids):
    return transformers.AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(ids)


@pytest.fixture(scope="module")
def tokenizers(llama_folder, llava_metaspace_folder):
    return {"bytes": llama_folder, "metaspace": llava_metaspace_folder}


ROLES = "{% for message in messages %}USER: {{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize(("kind", "first"), [("bytes", "Ġdog"), ("metaspace", "▁dog")])
def test_an_answer_after_a_colon_begins_with_its_space(kind, first, tokenizers):
    dialogue = layout(tokenizers[kind], template=ROLES + " ASSISTANT:").lay_out(None, "a", "dog")
    assert pieces(tokenizers[kind], dialogue.ids[dialogue.start :]) == [first]
    assert dialogue.offsets == ((0, 3),)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizers[kind])
    assert list(dialogue.ids) == tokenizer("USER: a ASSISTANT: dog")["input_ids"]


@pytest.mark.parametrize("ending", ["\n", " ", "</s>"])
def test_an_answer_after_whitespace_or_a_special_token_gets_no_space(ending, tokenizers):
    form = layout(tokenizers["bytes"], template=ROLES + f"{{{{ {ending!r} }}}}")
    dialogue = form.lay_out(None, "a", "dog")
    words = pieces(tokenizers["bytes"], dialogue.ids[dialogue.start :])
    assert "".join(words) == "dog"
    assert dialogue.offsets[0][0] == 0
    assert dialogue.offsets[-1][1] == 3


def test_an_answer_with_its_own_space_gets_no_second_one(tokenizers):
    form = layout(tokenizers["bytes"], template=ROLES + " ASSISTANT:")
    own, given_one = form.lay_out(None, "a", " dog"), form.lay_out(None, "a", "dog")
    assert own.ids == given_one.ids
    assert own.offsets == ((0, 4),)


def test_a_begin_token_in_the_template_is_not_doubled(tokenizers):
    with_begin = layout(tokenizers["bytes"], template="{{ bos_token }}" + ROLES)
    without = layout(tokenizers["bytes"], template=ROLES)
    assert with_begin.lay_out(None, "a", "dog").ids == without.lay_out(None, "a", "dog").ids


def test_a_text_alone_starts_after_whatever_begins_a_document(siglip2_folder):
    ends = layout(siglip2_folder, bos_token=None, eos_token="</s>")
    assert pieces(siglip2_folder, ends.lay_out(None, None, "dog").ids[:1]) == ["</s>"]
    nothing = layout(siglip2_folder, bos_token=None, eos_token=None)
    with pytest.raises(TextRefusedError, match="give a prompt"):
        nothing.lay_out(None, None, "dog")
    assert nothing.lay_out(None, "a", "dog").start == 1


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(min_size=1, max_size=40),
    prompt=st.none() | st.text(min_size=1, max_size=20),
    kind=st.sampled_from(["bytes", "metaspace"]),
    templated=st.booleans(),
)
def test_any_text_keeps_the_prompt_and_its_offsets_in_order(
    tokenizers, text, prompt, kind, templated
):
    form = layout(tokenizers[kind], template=ROLES + " ASSISTANT:" if templated else None)
    before = form.lay_out(None, prompt, "a")
    try:
        dialogue = form.lay_out(None, prompt, text)
    except TextRefusedError:
        return
    assert dialogue.ids[: dialogue.start] == before.ids[: before.start]
    assert len(dialogue.ids) - dialogue.start == len(dialogue.offsets)
    starts = [start for start, _ in dialogue.offsets]
    assert starts == sorted(starts)
    assert all(0 <= start <= end <= len(text) for start, end in dialogue.offsets)
    covered = {at for start, end in dialogue.offsets for at in range(start, end)}
    assert {at for at, letter in enumerate(text) if not letter.isspace()} <= covered


def test_answers_that_share_an_opening_are_laid_out_as_alone(tokenizers):
    form = layout(tokenizers["metaspace"], template=ROLES + " ASSISTANT:")
    opening = form.open(None, "a cat")
    for text in ("dog", " two dogs", "A hot dog."):
        assert form.answer(opening, text) == form.lay_out(None, "a cat", text)
