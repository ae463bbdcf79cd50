"""What `helm test` runs: asks every served endpoint about one picture. Knows the SDK alone."""

import sys

import PIL.Image

from sightline import RewardClient, SightlineError

TEXT = "A dog and a cat."


def ask(client: RewardClient, endpoint: str) -> str:
    """Asks one endpoint; returns what to print of its answer."""
    picture = PIL.Image.new("RGB", (64, 64), "steelblue")
    if endpoint == "token_reward":
        [token] = client.token_reward(picture, TEXT)
        return ", ".join(f"{span.text} {span.score:.1f}" for span in token.spans)
    if endpoint == "sentence_reward":
        [sentence] = client.sentence_reward(picture, TEXT)
        return f"{sentence.score:.1f}"
    if endpoint == "ground":
        return f"{len(client.ground(picture, text=TEXT).detections)} boxes"
    [surprise] = client.perplexity(TEXT, image=picture)
    return f"{surprise.perplexity:.1f}"


def main(endpoints: list[str]) -> int:
    """Asks all `endpoints`; returns 1 where one of them fails."""
    with RewardClient(timeout_s=120) as client:
        for endpoint in endpoints:
            try:
                sys.stdout.write(f"{endpoint}: {ask(client, endpoint)}\n")
            except SightlineError as error:
                sys.stderr.write(f"{endpoint}: {error}\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
