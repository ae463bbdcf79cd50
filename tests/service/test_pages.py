import base64
import io
import re

import PIL.Image
import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/ui", "/docs"])
async def test_a_page_is_one_file_that_asks_nobody_else(serve, path):
    async with serve() as client:
        response = await client.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in response.headers["content-security-policy"]
    addresses = re.findall(r"https?://[^\s\"'`]+", response.text)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"<script[^>]+src|<link[^>]+href=\"(?!data:)|@import", response.text)


async def test_the_playgrounds_example_is_scored_by_every_endpoint_it_asks(serve):
    async with serve() as client:
        page = (await client.get("/ui")).text
        [caption, data] = re.search(r'caption: "([^"]+)", image: "([^"]+)"', page).groups()
        image = base64.b64decode(data)
        endpoints = re.findall(r'post\("(\w+)"', page)
        replies = [
            await client.post(
                f"/v1/{endpoint}", data={"text": caption}, files={"image": ("scene.webp", image)}
            )
            for endpoint in endpoints
        ]
    assert set(endpoints) == {"token_reward", "sentence_reward", "ground", "perplexity"}
    assert PIL.Image.open(io.BytesIO(image)).size == (192, 192)
    for reply in replies:
        assert "error" not in reply.json()["items"][0]
