"""Hostile bytes, by the ten thousand, against the real app in this process."""

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from mutations import spoil, with_checksums, with_size
from pictures import encoded, png
from sound_service import sound_app

from sightline_proto import (
    ENDPOINTS,
    GroundItem,
    GroundRequest,
    Image,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardRequest,
    TokenRewardItem,
    TokenRewardRequest,
)
from sightline_proto.message import Message
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, to_protobuf

pytestmark = pytest.mark.anyio

OF_EACH, OF_THE_RARE, FORMS = 5_000, 1_000, 2_000
"""Mutants: of each of four formats and of each endpoint's body; of TIFF and BMP; of forms."""
IN_A_REQUEST = 50
MORE_MEMORY_MIB = 300
PROTOBUF = {"content-type": CONTENT_TYPE_PROTOBUF}
REFUSALS = {"image_invalid", "image_too_large", "image_format_not_supported"}
KINDS: dict[str, list[dict[str, object]]] = {
    "PNG": [{}, {"optimize": True}, {"compress_level": 0}],
    "JPEG": [{}, {"progressive": True}, {"quality": 20, "subsampling": 0}],
    "WEBP": [{}, {"lossless": True}],
    "GIF": [{}],
    "BMP": [{}],
    "TIFF": [{}, {"compression": "tiff_lzw"}],
}


@asynccontextmanager
async def service() -> AsyncIterator[httpx.AsyncClient]:
    app = sound_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        yield client


class Memory:
    """The most memory that this process has had since the object was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._peak_mib()

    @property
    def grown_mib(self) -> float:
        return self._peak_mib() - self._before

    def _peak_mib(self) -> float:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def files(file_format: str) -> list[bytes]:
    """Sound files, one of each kind of the format."""
    return [
        encoded(seed, file_format, **options) for seed, options in enumerate(KINDS[file_format])
    ]


def mutant(sound: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """A spoilt file; half of the PNGs with right checksums, or none would be read far."""
    spoilt = spoil(sound, draw, others=others)
    return with_checksums(spoilt) if draw.random() < 0.5 else spoilt


@pytest.mark.parametrize("file_format", KINDS)
async def test_no_mutated_image_breaks_the_service_or_swells_it(file_format):
    draw, outcomes = random.Random(file_format), Counter()
    sound, others = files(file_format), [file for name in KINDS for file in files(name)]
    total = OF_THE_RARE if file_format in ("BMP", "TIFF") else OF_EACH
    async with service() as client:
        assert set(codes(await client.post("/ground", json=as_json(sound)))) == {"scored"}
        memory = Memory()
        for _ in range(total // IN_A_REQUEST):
            batch = [mutant(draw.choice(sound), draw, others) for _ in range(IN_A_REQUEST)]
            answer = await client.post("/ground", json=as_json(batch))
            assert answer.status_code == 200, answer.text
            outcomes.update(codes(answer))
        assert (await client.get("/readyz")).status_code == 200
        assert memory.grown_mib < MORE_MEMORY_MIB, outcomes
    assert outcomes.total() == total
    assert outcomes.keys() <= {*REFUSALS, "scored"}, outcomes
    assert min(outcomes["scored"], outcomes["image_invalid"]) > total / 50, outcomes


def as_json(batch: list[bytes]) -> dict[str, object]:
    items = [{"image": Image(data).to_text() or "-", "phrases": ["dog"]} for data in batch]
    return {"items": items}


def codes(answer: httpx.Response) -> list[str]:
    """What became of each item."""
    errors = [item.get("error") for item in answer.json()["items"]]
    return [error["code"] if error else "scored" for error in errors]


async def test_files_that_declare_huge_sizes_cost_nothing():
    small = png(1)
    sizes = [2**31 - 1, 2**20, 65_535, 20_000, 6_400, 1, 0]
    bombs = [with_size(small, width, height) for width in sizes for height in sizes]
    async with service() as client:
        memory, seen = Memory(), Counter()
        for start in range(0, len(bombs), IN_A_REQUEST):
            answer = await client.post("/ground", json=as_json(bombs[start : start + IN_A_REQUEST]))
            seen.update(codes(answer))
        assert memory.grown_mib < MORE_MEMORY_MIB
    assert seen.keys() <= {*REFUSALS, "scored"}
    assert seen["scored"] <= 1, "one pixel of them all may be there"


def messages() -> dict[str, Message]:
    image = Image(png(2, (8, 8)))
    texts = ("A dog and a cat. It rains.", "Zwei Hunde \U0001f415.")
    offsets = (((0, 1), (2, 5)), ((0, 4),))
    return {
        "token_reward": TokenRewardRequest(
            items=(TokenRewardItem(id="a", image=image, texts=texts, token_offsets=offsets),)
        ),
        "sentence_reward": SentenceRewardRequest(
            items=(SentenceRewardItem(image=image, texts=texts, language_scores=(0.5, -1.0)),),
            weight=0.9,
        ),
        "ground": GroundRequest(items=(GroundItem(image=image, phrases=("dog", "cat")),)),
        "perplexity": PerplexityRequest(
            items=(PerplexityItem(image=image, prompt="What is it?", texts=texts),),
            return_tokens=True,
        ),
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_no_mutated_protobuf_breaks_the_service_or_swells_it(endpoint):
    draw, outcomes = random.Random(endpoint.name), Counter()
    bodies = {name: to_protobuf(message) for name, message in messages().items()}
    sound, others = bodies[endpoint.name], list(bodies.values())
    async with service() as client:
        memory = Memory()
        for _ in range(OF_EACH):
            body = spoil(sound, draw, others=others)
            answer = await client.post(endpoint.path, content=body, headers=PROTOBUF)
            outcomes[answer.status_code] += 1
            if answer.status_code == 200:
                assert b"internal_error" not in answer.content, body
        assert memory.grown_mib < MORE_MEMORY_MIB
    assert outcomes.total() == OF_EACH
    assert outcomes.keys() <= {200, 400, 404, 422}, outcomes
    assert min(outcomes[200], outcomes[400]) > OF_EACH / 50, outcomes


async def test_no_mutated_form_breaks_the_service():
    draw, outcomes = random.Random(22), Counter()
    parts = [
        ("image", ("a.png", png(4, (8, 8)))),
        ("text", (None, "A dog.")),
        ("text", (None, "A cat.")),
        ("weight", (None, "0.5")),
    ]
    request = httpx.Request("POST", "http://x/sentence_reward", files=parts)
    body, headers = request.read(), {"content-type": request.headers["content-type"]}
    async with service() as client:
        for _ in range(FORMS):
            spoilt = spoil(body, draw)
            answer = await client.post("/sentence_reward", content=spoilt, headers=headers)
            outcomes[answer.status_code] += 1
    assert outcomes.keys() <= {200, 400, 422}, outcomes
    assert min(outcomes[200], outcomes[400]) > 20, outcomes
