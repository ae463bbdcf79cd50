"""A CLIP scorer on LitServe with dynamic batching. Knows LitServe and open_clip, no Sightline.

As its users write one: images are decoded and preprocessed where LitServe decodes requests, the
model runs on what a batch holds.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from typing import Any

import litserve
import open_clip
import torch
from PIL import Image

_BATCH = 32
_WAIT_S = 0.01


class Scorer(litserve.LitAPI):  # type: ignore[misc]  # LitServe is in an environment of its own
    """Scores each request's texts against its image."""

    def __init__(self, folder: str, **options: object) -> None:
        super().__init__(**options)
        self._folder = folder

    def setup(self, device: str) -> None:
        """Loads the model in the worker process."""
        name = f"local-dir:{self._folder}"
        self._model, _, self._transform = open_clip.create_model_and_transforms(name)
        self._model.to(device).eval()
        self._tokenizer = open_clip.get_tokenizer(name)

    def decode_request(self, request: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns pixels and token ids."""
        image = Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")
        return self._transform(image), self._tokenizer(request["texts"])

    def batch(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Leaves the inputs as they are: they hold different numbers of texts."""
        return inputs

    def predict(self, batch: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[list[float]]:
        """Returns each request's cosines."""
        with torch.inference_mode():
            images = self._model.encode_image(torch.stack([i for i, _ in batch]), normalize=True)
            texts = self._model.encode_text(torch.cat([t for _, t in batch]), normalize=True)
            parts = texts.split([len(ids) for _, ids in batch])
            return [(part @ image).tolist() for part, image in zip(parts, images, strict=True)]

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """Returns one result per request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Returns the reply's JSON."""
        return {"cosines": output}


def main() -> None:
    """Serves until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    api = Scorer(options.folder, max_batch_size=_BATCH, batch_timeout=_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
