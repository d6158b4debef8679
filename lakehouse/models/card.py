"""The card of a model: what it is and is not, what it was made of, and how well it did, as Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lakehouse.models.artefact import DIGESTS
from lakehouse.models.evaluation import Estimate, Evaluation, Performance
from lakehouse.models.features import COURSES, HOURS, NAMES
from lakehouse.models.outcome import Outcome
from lakehouse.models.recipe import Learner, Recipe, Trees


def card(evaluation: Evaluation, recipe: Recipe, data: Mapping[str, Any], commit: str | None, file_digest: str) -> str:
    """The card; figures are those of patients whom the model that gave them had not seen."""
    outcome = evaluation.outcome
    made_of = ", ".join(f"{name} {value}" for name, value in data.items())
    lines = [
        f"# Risk of {outcome.event}",
        "",
        *_simulated(outcome),
        "Not a medical device. For research on the patients that it was trained on, and on others like them.",
        "",
        (
            f"- Trained on {evaluation.landmarks:,} landmarks, {outcome.landmarks} of {evaluation.patients} patients;"
            f" {evaluation.events} of them, of {evaluation.patients_with_event} patients, have before them"
            f" {outcome.event}."
        ),
        f"- Data: {made_of}; rows {evaluation.rows_digest[:12]}.",
        (
            f"- Code: {commit or 'not known'}; {_told(recipe.learner)}, declared as"
            f" {DIGESTS[recipe.learner.kind][:12]}; file {file_digest[:12]}."
        ),
        (
            f"- {_fitted(recipe.learner)}, sigmoid calibration; {recipe.folds} folds by patient, {recipe.repeats}"
            f" times, seed {recipe.seed}; nothing was tuned."
        ),
        (
            f"- Mean risk {evaluation.mean_risk:.3f}, share of events {evaluation.events / evaluation.landmarks:.3f},"
            f" calibration error {evaluation.calibration_error:.3f}, Brier score {evaluation.brier:.3f}."
        ),
        "",
        *performance_table(evaluation.performances),
        "",
        "Intervals resample patients. Alerts and hours are at the sensitivity that a NEWS2 of 7 has on these rows.",
        "",
        *subgroup_table(evaluation),
    ]
    return "\n".join(lines) + "\n"


def _told(learner: Learner) -> str:
    if isinstance(learner, Trees):
        return f"{len(NAMES)} features"
    return f"the course of {len(COURSES)} signals over {HOURS} hours, and the age"


def _fitted(learner: Learner) -> str:
    if isinstance(learner, Trees):
        return f"{learner.trees} boosted trees of {learner.leaves} leaves"
    return f"A network of two convolutions of width {learner.width}, {learner.steps} steps"


def performance_table(performances: Iterable[Performance]) -> Iterator[str]:
    """A row for each way to rank landmarks."""
    yield "| | AUROC (95 %) | AUPRC (95 %) | sensitivity | alerts a patient and day | hours ahead, median |"
    yield "|---|---|---|---|---|---|"
    for one in performances:
        lead = "" if one.lead_hours is None else f"{one.lead_hours:.3g}"
        yield (
            f"| {one.name} | {_text(one.auroc)} | {_text(one.auprc)} | {one.sensitivity:.2f} | {one.alerts_a_day:.2f}"
            f" | {lead} |"
        )


def subgroup_table(evaluation: Evaluation) -> Iterator[str]:
    """A row for each group; without a figure where fewer than two of its patients had the event."""
    yield "| | | landmarks | patients | with event | AUROC |"
    yield "|---|---|---|---|---|---|"
    for one in evaluation.subgroups:
        auroc = "" if one.auroc is None else f"{one.auroc:.3f}"
        counts = f"{one.landmarks:,} | {one.patients} | {one.patients_with_event}"
        yield f"| {one.column} | {one.value} | {counts} | {auroc} |"


def _simulated(outcome: Outcome) -> Iterator[str]:
    if outcome.simulated:
        yield (
            "**Simulated.** The event is one that the simulator makes up. The model is for trying the way from labels"
            " to a risk: it knows nothing of ill people, and says nothing of a patient of another system than"
            f" {outcome.system}."
        )
        yield ""


def _text(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
