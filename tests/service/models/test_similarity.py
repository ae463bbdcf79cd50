"""open_clip and transformers similarity models against the libraries' own forward passes."""

import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import open_clip
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn

from sightline_service.models.load import ModelLoadError, load_similarity
from sightline_service.models.open_clip_text import OpenClipText, quicker

CAPTIONS = [
    "A dog.",
    "a hot dog on the table",
    "Two small cats sit under a large red umbrella and a bus.",
    "x",
    "An über-cute café 🐶 dog",
]
LONG = "a dog and a cat and " * 20


def load(reference):
    return load_similarity(reference, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def references(open_clip_folder, open_clip_hf_folder, clip_folder, siglip_folder, siglip2_folder):
    return {
        "open_clip": f"open_clip:local-dir:{open_clip_folder}",
        "open_clip_hf": f"open_clip:local-dir:{open_clip_hf_folder}",
        "clip": f"hf:{clip_folder}",
        "siglip": f"hf:{siglip_folder}",
        "siglip2": f"hf:{siglip2_folder}",
    }


KINDS = ["open_clip", "open_clip_hf", "clip", "siglip", "siglip2"]


@pytest.fixture(scope="module")
def served(references):
    return {kind: load(reference) for kind, reference in references.items()}


def direct_open_clip(folder, pictures, texts):
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        image = model.eval().encode_image(
            torch.stack([transform(picture) for picture in pictures]), normalize=True
        )
        text = model.encode_text(tokenizer(texts), normalize=True)
    return image.numpy(), text.numpy()


def direct_hf(folder, pictures, texts, *, padding, length):
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(
        text=texts,
        images=pictures,
        padding=padding,
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    if padding == "max_length":  # SigLIP was trained without a mask: it sees its padding
        inputs.pop("attention_mask", None)
    with torch.inference_mode():
        outputs = model(**inputs)
    return outputs.image_embeds.numpy(), outputs.text_embeds.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_equal_the_librarys_own(kind, references, served, mixed_images):
    folder = references[kind].split(":")[-1]
    texts = [*CAPTIONS, LONG]
    if kind.startswith("open_clip"):
        image, text = direct_open_clip(folder, mixed_images, texts)
    elif kind == "clip":
        image, text = direct_hf(folder, mixed_images, texts, padding=True, length=16)
    else:
        image, text = direct_hf(folder, mixed_images, texts, padding="max_length", length=12)
    model = served[kind]
    ours = model.embed_images([model.prepare_image(picture) for picture in mixed_images])
    one_level = 1e-3 if kind.startswith("open_clip") else 2e-6  # its bytes may differ by 1 of 255
    np.testing.assert_allclose(ours, image, atol=one_level)
    ours = model.embed_texts([model.prepare_text(caption) for caption in texts])
    np.testing.assert_allclose(ours, text, atol=2e-6)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cosine_does_not_depend_on_neighbours_or_order(kind, served, mixed_images):
    model = served[kind]
    pictures = [model.prepare_image(picture) for picture in mixed_images]
    texts = [model.prepare_text(caption) for caption in [*CAPTIONS, LONG]]
    alone = np.vstack([model.embed_images([one]) for one in pictures]) @ (
        np.vstack([model.embed_texts([one]) for one in texts]).T
    )
    for seed in range(3):
        rows = random.Random(seed).sample(range(len(pictures)), len(pictures))
        columns = random.Random(seed).sample(range(len(texts)), len(texts))
        together = model.embed_images([pictures[row] for row in rows]) @ (
            model.embed_texts([texts[column] for column in columns]).T
        )
        np.testing.assert_allclose(together, alone[np.ix_(rows, columns)], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "context", "specials"),
    [
        ("open_clip", 14, 2),
        ("open_clip_hf", 14, 2),
        ("clip", 16, 2),
        ("siglip", 12, 1),
        ("siglip2", 12, 1),
    ],
)
def test_truncation_is_reported_exactly_at_the_context_length(kind, context, specials, served):
    model = served[kind]
    assert not model.prepare_text(" ".join(["a"] * (context - specials))).truncated
    assert model.prepare_text(" ".join(["a"] * (context - specials + 1))).truncated


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_text_keeps_its_end_token(kind, served):
    model = served[kind]
    short, cut = model.prepare_text("a dog"), model.prepare_text(LONG)
    assert cut.truncated
    end = 1 if kind.startswith("siglip") else max(short.data)
    assert end in short.data
    assert cut.data[-1] == end


@pytest.fixture(scope="module")
def simple_tokenizer():
    return SimpleTokenizer(context_length=77)


PLAIN = st.text(st.characters(max_codepoint=0x7F), max_size=60)
CAPTION = st.lists(
    st.sampled_from(
        [
            "A",
            "dog's",
            "hat,",
            "12",
            "red",
            "(cats)",
            "<end_of_text>",
            "it'LL",
            "&amp;",
            "café",
            "\x1c",
            "\r\n",
            "w_x",
        ]
    ),
    max_size=120,
).map(" ".join)


@pytest.mark.parametrize("special", [[], ["red hat", "a dog"]], ids=["ordinary", "with spaces"])
@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(max_size=300), PLAIN, CAPTION))
def test_open_clip_ids_equal_its_own_tokenizer(special, text):
    tokenizer = _simple_tokenizer(tuple(special))
    ours = OpenClipText(tokenizer)
    for _ in range(2):  # the second time, the words are known
        tokens = ours.encode(text)
        assert list(ours.padded(tokens.ids)) == tokenizer(text)[0].tolist()
        assert tokens.truncated == (len(tokenizer.encode(text)) + 2 > 77)


@cache
def _simple_tokenizer(special: tuple[str, ...]) -> SimpleTokenizer:
    return SimpleTokenizer(context_length=77, additional_special_tokens=list(special))


@pytest.mark.parametrize("kind", ["lower", "whitespace", "canonicalize"])
@settings(max_examples=200, deadline=None)
@given(text=st.one_of(PLAIN, CAPTION, st.text(max_size=60)))
def test_a_text_that_needs_no_mending_is_cleaned_as_open_clip_cleans_it(kind, text):
    clean = get_clean_fn(kind)
    assert quicker(clean)(text) == clean(text)


def test_an_endless_word_is_cut_quickly_and_reported(simple_tokenizer):
    source = random.Random(1)
    word = "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=20_000))
    text = OpenClipText(simple_tokenizer)
    tokens = text.encode(word)
    assert tokens.truncated
    assert tokens.ids[:70] == text.encode(word[:2048]).ids[:70]
    assert max(len(remembered) for remembered in simple_tokenizer.cache) <= 2048


def test_the_memory_of_words_is_bounded(simple_tokenizer):
    text = OpenClipText(simple_tokenizer)
    before = text.encode("a dog w12")
    for start in range(0, 12_000, 50):
        text.encode(" ".join(f"{chr(0x4E00 + n)}" for n in range(start, start + 50)))
    assert len(simple_tokenizer.cache) < 11_000
    assert len(text._known) <= 10_000
    assert text.encode("a dog w12") == before


def test_an_unknown_open_clip_tokenizer_is_refused():
    class Odd:
        context_length = 77

    with pytest.raises(ModelLoadError, match="Odd is unknown"):
        OpenClipText(Odd())


def test_a_tokenizer_that_drops_words_at_random_is_refused():
    with pytest.raises(ModelLoadError, match="reduction_mask"):
        OpenClipText(SimpleTokenizer(reduction_mask="random"))


def test_the_info_names_reference_weights_preprocessing_and_arithmetic(references, served):
    for kind, reference in references.items():
        info = served[kind].info
        assert info.id == reference
        assert info.revision.startswith("sha256:")
        assert info.dtype == "float32"
    assert len({model.info.preprocess for model in served.values()}) == len(KINDS)
    assert len({model.info.revision for model in served.values()}) == len(KINDS)
    assert all(model.scale == "cos100" for model in served.values())


def test_another_mean_is_another_preprocessing_and_other_scores(
    open_clip_folder, tmp_path, served, mixed_images
):
    folder = tmp_path / "shifted"
    shutil.copytree(open_clip_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.1, 0.1]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    shifted = load(f"open_clip:local-dir:{folder}")
    assert shifted.info.preprocess != served["open_clip"].info.preprocess
    ours, theirs = (
        model.embed_images([model.prepare_image(mixed_images[0])])
        for model in (shifted, served["open_clip"])
    )
    assert np.abs(ours - theirs).max() > 1e-3


def test_the_same_folder_loaded_twice_has_the_same_info(references, served):
    assert load(references["siglip"]).info == served["siglip"].info


def test_bfloat16_stays_near_float32(references, served, mixed_images):
    half = load_similarity(references["clip"], device="cpu", dtype="bfloat16")
    assert half.info.dtype == "bfloat16"
    full = served["clip"]
    pair = [
        model.embed_images([model.prepare_image(mixed_images[0])])
        @ model.embed_texts([model.prepare_text(CAPTIONS[1])]).T
        for model in (half, full)
    ]
    assert abs((pair[0] - pair[1]).item()) < 0.02


def test_a_copied_folder_has_the_same_revision_and_preprocessing(clip_folder, served, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "copy")
    info = load(f"hf:{tmp_path / 'copy'}").info
    assert info.preprocess == served["clip"].info.preprocess
    assert info.revision == served["clip"].info.revision


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_may_prepare_texts_at_once(kind, served):
    model = served[kind]
    texts = [" ".join(["a dog"] * count) for count in range(1, 25)] * 20
    expected = [model.prepare_text(text) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(model.prepare_text, texts)) == expected
