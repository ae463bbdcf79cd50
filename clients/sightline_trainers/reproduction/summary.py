"""Several seeds of a reproduction as one Markdown table with verdicts. Knows text, not training."""

from collections.abc import Iterator, Sequence

from sightline_trainers.reproduction.columns import CAPTIONS, COSTS, POPE, Column
from sightline_trainers.reproduction.papers import PRINTED, REMARKS
from sightline_trainers.reproduction.plan import PLANS
from sightline_trainers.reproduction.results import Results
from sightline_trainers.reproduction.targets import judge, scores_of

_SAMPLED = (
    Column("sampled_chair_s", "sampled: CHAIR_s %"),
    Column("sampled_recall", "sampled: recall %"),
    Column("sampled_objects", "sampled: objects", "", 2),
)
COLUMNS = (*CAPTIONS, *POPE[:2], *_SAMPLED, *COSTS)


def summarise_all(results: Sequence[Results]) -> str:
    """The summaries of all methods and policies among the results, one after another.

    Raises:
        ValueError: as `summarise`.
    """
    groups: dict[tuple[str, str], list[Results]] = {}
    for each in results:
        groups.setdefault((each.method, each.policy["weights"]), []).append(each)
    return "\n".join(summarise(group) for group in groups.values())


def summarise(results: Sequence[Results]) -> str:
    """Markdown: what was run, the table beside the paper's numbers, and the verdicts.

    Raises:
        ValueError: the results are not of one method, policy, exam and recipe, or a seed is twice.
    """
    check(results)
    ordered = sorted(results, key=lambda each: each.seed)
    lines = [*_opening(ordered), "", *_table(ordered), "", REMARKS[ordered[0].method], ""]
    lines += [f"- **{verdict.outcome}** - {verdict}" for verdict in judge(ordered)]
    return "\n".join(lines) + "\n"


def check(results: Sequence[Results]) -> None:
    """Whether results can be merged.

    Raises:
        ValueError: they cannot; the message says why.
    """
    first = results[0]
    for other in results[1:]:
        for name in ("method", "policy", "split", "scenes", "recipe"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"seed {first.seed} has {name} {mine!r}, seed {other.seed} {theirs!r}: "
                    "merge what differs in the seed alone"
                )
    seeds = [each.seed for each in results]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"the seeds are {seeds}: give each seed once")


def _opening(results: Sequence[Results]) -> Iterator[str]:
    first = results[0]
    seeds = ", ".join(str(each.seed) for each in results)
    yield f"### {PLANS[first.method].title}"
    yield ""
    yield (
        f"{'Seeds' if len(results) > 1 else 'Seed'} {seeds}; the first {first.scenes} scenes of "
        f"the {first.split} split; policy `{first.policy['model']}` (weights "
        f"{first.policy['weights']}); recipe {first.recipe['file']}{_laid_over(first)}. "
        "Greedy captions where nothing else is said; the mean over the seeds, in brackets the "
        "smallest and the largest."
    )


def _laid_over(results: Results) -> str:
    fields = results.recipe["fields"]
    if not fields:
        return ""
    return " with " + ", ".join(f"{name} {value}" for name, value in fields.items())


def _table(results: Sequence[Results]) -> Iterator[str]:
    headings = ["", *(column.heading for column in COLUMNS), "the paper"]
    yield _line(headings)
    yield _line(["---", *("---:" for _ in COLUMNS), "---"])
    printed = PRINTED[results[0].method]
    seeds = [scores_of(each) for each in results]
    labels = {row.name: row.label for each in results for row in each.rows}
    for name, label in labels.items():
        having = [seed[name] for seed in seeds if name in seed]
        cells = [
            column.spread([values[column.figure] for values in having if column.figure in values])
            for column in COLUMNS
        ]
        yield _line([label, *cells, str(printed[name]) if name in printed else ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
