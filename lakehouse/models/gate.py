"""Whether a model may take the place of the one in service: every reason against it, or none."""

from dataclasses import dataclass

from lakehouse.models.evaluation import MODEL, Evaluation
from lakehouse.scores import Score


@dataclass(frozen=True)
class Gate:
    """The bounds. Margins are what repeats of one training differ by on data as small as the demo."""

    auroc_margin: float = 0.02
    auprc_margin: float = 0.03
    calibration_error: float = 0.05


SIMULATED = "it predicts episodes of simulated patients, and the model in service does not"


class GateRefusedError(ValueError):
    """A model may not be promoted; ``reasons`` has each condition that it fails, with its figures."""

    def __init__(self, version: int, reasons: tuple[str, ...]) -> None:
        super().__init__(f"version {version} is not promoted: {'; '.join(reasons)}")
        self.reasons = reasons


def reasons(candidate: Evaluation, in_service: Evaluation | None, gate: Gate, *, other_rows: bool) -> tuple[str, ...]:
    """What speaks against the candidate, in words.

    Figures of two models can be compared where both were evaluated on the same rows. With ``other_rows`` they are
    compared although they were not. Nothing lets a model of simulated episodes take the place of another kind.
    """
    model, news2 = candidate.of(MODEL), candidate.of(Score.NEWS2)
    found = []
    if candidate.outcome.simulated and in_service is not None and not in_service.outcome.simulated:
        found.append(SIMULATED)
    if not model.auroc.value > news2.auroc.value:
        found.append(f"AUROC {model.auroc.value:.3f} is not above that of NEWS2, {news2.auroc.value:.3f}")
    if not candidate.calibration_error <= gate.calibration_error:
        found.append(f"calibration error {candidate.calibration_error:.3f} is above {gate.calibration_error}")
    # Nothing that a model of simulated episodes did says how good one of people is.
    if in_service is None or candidate.outcome.simulated != in_service.outcome.simulated:
        return tuple(found)
    if in_service.rows_digest != candidate.rows_digest and not other_rows:
        found.append(
            "the model in service was evaluated on other rows: `ward model train` both on one snapshot, or promote with"
            " --other-rows"
        )
    other = in_service.of(MODEL)
    for name, own, theirs, margin in (
        ("AUROC", model.auroc.value, other.auroc.value, gate.auroc_margin),
        ("AUPRC", model.auprc.value, other.auprc.value, gate.auprc_margin),
    ):
        if not own >= theirs - margin:
            found.append(f"{name} {own:.3f} is more than {margin} below that of the model in service, {theirs:.3f}")
    return tuple(found)
