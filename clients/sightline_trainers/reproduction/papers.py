"""What the papers print for the rows that are reproduced. Knows numbers and where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Printed:
    """Numbers of one row of a paper's table.

    Attributes:
        label: what the paper calls the row.
        values: metric as printed -> value as printed.
        source: the table.
    """

    label: str
    values: Mapping[str, float]
    source: str

    def __str__(self) -> str:
        """All of it in one line."""
        numbers = ", ".join(
            f"{metric} {f'{value:.2f}'.removesuffix('0')}" for metric, value in self.values.items()
        )
        return f"{numbers} ({self.label}, {self.source})"


def _chair(chair_s: float, chair_i: float, **others: float) -> dict[str, float]:
    return {"CHAIR_S": chair_s, "CHAIR_I": chair_i, **others}


def _csr(
    chair_s: float, chair_i: float, accuracy: float, f1: float, words: float
) -> Mapping[str, float]:
    return _chair(chair_s, chair_i) | {"POPE acc": accuracy, "POPE F1": f1, "length": words}


def _aspo(average: float, pope: float, shr: float) -> Mapping[str, float]:
    return {"average": average, "POPE": pope, "SHR": shr}


def _svp(f1: float, referring: float, flickr: float, **others: float) -> Mapping[str, float]:
    return {"POPE F1": f1, **others, "RefCOCO CIDEr": referring, "Flickr30k CIDEr": flickr}


# The paper's "sentence" is the caption in its figures, and a sentence of it in its related work.
_COARSE = Printed("PPO without fine-grained rewards", _chair(55.3, 11.4, POPE=85.9), "Table 4")

PRINTED: Mapping[str, Mapping[str, Printed]] = {
    "fisao": {
        "base": Printed("LLaVA-1.5", _chair(54.3, 11.3, POPE=85.9), "Table 2"),
        "fisao": Printed("FiSAO", _chair(39.9, 9.9, POPE=85.7), "Table 2"),
        "sentence": _COARSE,
        "response": _COARSE,
    },
    "csr": {
        "base": Printed("LLaVA-1.5-7B", _csr(48.8, 14.9, 85.90, 84.29, 89.03), "Table 7"),
        "csr-1": Printed("CSR iter-1", _csr(26.6, 7.2, 86.94, 85.80, 80.59), "Table 7"),
        "csr-2": Printed("CSR iter-2", _csr(23.0, 6.1, 86.82, 85.62, 82.62), "Table 7"),
        "csr": Printed("CSR iter-3", _csr(21.0, 6.0, 87.01, 85.93, 83.29), "Table 7"),
        "judge": Printed("self-rewarding", _chair(24.0, 6.7) | {"POPE acc": 86.88}, "Table 1"),
        "only-rt": Printed("only R_T", {"average": 67.66}, "Table 2; base 65.96, CSR 70.99"),
        "only-ri": Printed("only R_I", {"average": 66.77}, "Table 2; base 65.96, CSR 70.99"),
    },
    "aspo": {
        "base": Printed("LLaVA-1.5-7B", _aspo(62.59, 85.9, 37.9), "Table 5"),
        "dpo": Printed("DPO", _aspo(63.12, 86.2, 40.1), "Table 5"),
        "aspo": Printed("ASPO, S+P", _aspo(65.16, 86.6, 33.9), "Table 5"),
        "level-response": Printed("response level", _aspo(54.90, 73.2, 72.1), "Table 6"),
        "level-token": Printed("token level", _aspo(59.56, 77.7, 59.1), "Table 6"),
        "metric-s": Printed("ASPO-S", _aspo(64.91, 86.5, 34.6), "Table 5"),
        "metric-p": Printed("ASPO-P", _aspo(65.16, 86.6, 35.2), "Table 5"),
    },
    "svp": {
        "base": Printed("LLaVA-1.6-7b", _svp(86.73, 6.70, 78.74, recall=79.60), "Tables 3 and 6"),
        "svp": Printed(
            "SVP with visual queries", _svp(88.25, 24.74, 85.31, recall=84.41), "Tables 3 and 6"
        ),
        "unscored": Printed(
            "grounding without scoring and queries", _svp(86.92, 9.98, 78.67), "Table 6"
        ),
        "ungrounded": Printed(
            "without grounding, scoring and queries", _svp(87.21, 3.01, 79.03), "Table 6"
        ),
    },
}
"""Method -> row -> what its paper has there, for LLaVA of 7B."""

REMARKS: Mapping[str, str] = {
    "fisao": (
        "The paper's margins are on a scale of its own: 5, 10 and 20 give CHAIR_S 53.3, 39.9 and "
        "56.5 (Table 5)."
    ),
    "csr": "The paper's averages are over all of its benchmarks; higher is better.",
    "aspo": (
        "The paper's averages are over nine benchmarks; higher is better. SHR is the share of "
        "sentences with hallucinations by GPT-4's judgement; lower is better."
    ),
    "svp": (
        "The paper's recall is POPE's, over all splits. Its rows without scoring or grounding were "
        "also without visual queries, and with scoring but without queries POPE F1 is 88.33 and "
        "recall 84.20 (Table 3); ours differ in scoring and grounding alone."
    ),
}
