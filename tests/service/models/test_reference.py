"""The grammar of model references, and what it says to those who miss it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_service.models.reference import ModelLoadError, ModelReference, Scheme


def parse(text):
    return ModelReference.parse(text)


def test_every_form_is_parsed():
    assert parse("world").scheme is Scheme.WORLD
    assert parse("fake").scheme is Scheme.FAKE
    assert parse("open_clip:ViT-L-14-336/openai").names == ("ViT-L-14-336", "openai")
    assert parse("open_clip:local-dir:/models/clip").folder == Path("/models/clip")
    assert parse("open_clip:local-dir:clip").folder == Path("clip")
    assert parse("open_clip:hf-hub:laion/CLIP-x").repository == "laion/CLIP-x"
    assert parse("hf:openai/clip-vit-base-patch32").repository == "openai/clip-vit-base-patch32"
    assert parse("hf:/models/clip").folder == Path("/models/clip")
    assert parse("hf:./clip").folder == Path("clip")
    assert parse("hf:~/clip").folder == Path("~/clip").expanduser()
    assert parse("groundingdino:a.py, b.pth").names == ("a.py", "b.pth")
    assert parse("from-policy:org/llava").names == ("org/llava", "")
    assert parse("from-policy:/llava, ./clip").names == ("/llava", "./clip")


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/8", "0f2b3c4d" * 5])
def test_a_revision_follows_the_at_sign(revision):
    reference = parse(f"hf:org/name@{revision}")
    assert (reference.repository, reference.revision) == ("org/name", revision)
    assert parse("hf:org/name").revision is None


def test_a_local_path_may_hold_an_at_sign_and_a_colon():
    assert parse("hf:/models/a@b:c").folder == Path("/models/a@b:c")
    assert parse("open_clip:local-dir:/a@b:c").folder == Path("/a@b:c")


@pytest.mark.parametrize(
    ("text", "fault", "mend"),
    [
        ("", "is no known form", "use world, open_clip:NAME/TAG"),
        ("wrold", "is no known form", "use world"),
        ("world:x", "is no known form", "use world"),
        ("clip:ViT-B-32", "is no known form", "open_clip:NAME/TAG"),
        ("openai/clip-vit-base-patch32", "is no known form", "hf:org/name"),
        ("open_clip:", "lacks a name or a tag", "open_clip:ViT-L-14-336/openai"),
        ("open_clip:ViT-B-32", "lacks a name or a tag", "open_clip:ViT-L-14-336/openai"),
        ("open_clip:ViT-B-32/a/b", "lacks a name or a tag", "open_clip:ViT-L-14-336/openai"),
        ("open_clip:ViT-B-32/x.pt", "bare weights", "open_clip:local-dir:/path/to/folder"),
        ("open_clip:/models/clip", "bare weights", "open_clip_config.json"),
        ("open_clip:local-dir:", "empty path", "for example"),
        ("open_clip:hf-hub:", "'' where a hub repository belongs", "begin a folder with /"),
        ("hf:", "'' where a hub repository belongs", "hf:openai/clip-vit-large-patch14"),
        ("hf:a/b/c", "'a/b/c' where a hub repository belongs", "begin a folder with /"),
        ("hf:org/name@", "empty revision", "leave out @"),
        ("from-policy:", "lacks the policy", "from-policy:llava-hf/llava-1.5-7b-hf"),
        ("from-policy:org/llava,", "the encoder after its comma", "clip-vit-large-patch14-336"),
        ("from-policy:a/b/c", "'a/b/c' where a hub repository belongs", "begin a folder with /"),
        ("groundingdino:config.py", "needs a config and a checkpoint", "swint_ogc.pth"),
    ],
)
def test_a_refusal_names_reference_fault_and_mend(text, fault, mend):
    with pytest.raises(ModelLoadError) as caught:
        parse(text)
    message = str(caught.value)
    assert repr(text) in message
    assert fault in message
    assert mend in message


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        reference = parse(text)
    except ModelLoadError:
        return
    assert reference.text == text.strip()
