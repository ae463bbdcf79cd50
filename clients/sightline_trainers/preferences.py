"""Chosen and rejected responses as token ids, from a journal's records. Knows no tensor."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one row's prompt, as sampled ids, end token included.

    Attributes:
        row: the number of the row.
        chosen: the better response.
        rejected: the worse one.
        chosen_reference: its summed log-probability under the reference, nats.
        rejected_reference: the same of the worse one.
    """

    row: int
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    chosen_reference: float
    rejected_reference: float


def summarise(
    records: Iterable[Mapping[str, Any]], n_rows: int
) -> tuple[list[Preference], dict[str, float]]:
    """The pairs of all records, in the order of rows, and what they are like on average.

    Raises:
        ValueError: there are not as many records as rows.
    """
    pairs: list[Preference] = []
    sums: Counter[str] = Counter()
    n_records = 0
    for record in records:
        n_records += 1
        if record["dropped"] is not None:
            continue
        chosen, rejected = record["chosen"], record["rejected"]
        ids = tuple(chosen["ids"]), tuple(rejected["ids"])
        pairs.append(Preference(record["row"], *ids, chosen["reference"], rejected["reference"]))
        for side, response in (("chosen", chosen), ("rejected", rejected)):
            sums[f"{side}_tokens"] += len(response["ids"])
            sums.update({f"{side}_{n}": response[n] for n in ("value", "image") if n in response})
    if n_records != n_rows:
        raise ValueError(
            f"the pairs' journals hold {n_records} of {n_rows} rows: put the missing ones back, or "
            "begin a new run"
        )
    pairs.sort(key=lambda pair: pair.row)
    means = {name: value / len(pairs) for name, value in sums.items()}
    return pairs, {"pairs": len(pairs), "dropped": 1 - len(pairs) / n_rows, **means}
