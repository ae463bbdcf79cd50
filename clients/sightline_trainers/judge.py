"""The self-rewarding baseline: the policy judges its own answers (CSR, Table 3). Knows no service.

Where the paper has the model write "response 1" or "response 2", the log-probabilities of the two
answers are compared, so that every judgement can be read; both orders are asked, because a model
that prefers a place would otherwise judge by it.
"""

from collections.abc import Sequence

import PIL.Image
import torch

from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.policy import Policy

QUESTION = """\
Now you act as a judge, helping me determine which of the two texts I provide is closer to the \
given image and has fewer errors.
*****
Response 1:
{first}
Response 2:
{second}
*****
Please strictly follow the following format requirements when outputting, and don't have any other \
unnecessary words.
Output Format:
response 1 or response 2."""
"""The prompt of the paper's Table 3."""

ANSWERS = ("response 1", "response 2")


@torch.no_grad()
def preferences(
    policy: Policy, images: Sequence[PIL.Image.Image], texts: Sequence[tuple[str, str]]
) -> list[float]:
    """How much each first text is preferred to the second, in nats, at most 0 if it is not.

    It is half the sum of log P("response 1") - log P("response 2") over both orders, the second
    with its sign turned.
    """
    answers = [
        policy.prompts.tokenizer(answer, add_special_tokens=False)["input_ids"]
        for answer in ANSWERS
    ]
    prompts = [
        policy.prompts.encode(image, QUESTION.format(first=pair[first], second=pair[1 - first]))
        for image, pair in zip(images, texts, strict=True)
        for first in (0, 1)
    ]
    log_probs = [completion_log_probs(policy, prompts, [ids] * len(prompts)) for ids in answers]
    says_first = (log_probs[0] - log_probs[1]).view(-1, 2)
    preferred: list[float] = ((says_first[:, 0] - says_first[:, 1]) / 2).tolist()
    return preferred
