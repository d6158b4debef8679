"""What a rule that compares says: a verdict, or why there is none."""

from dataclasses import dataclass

NO_VERDICT = "no verdict: "
"""How the words of a rule begin that has too little to judge by. It counts as held: nothing is known to be wrong."""


@dataclass(frozen=True)
class Verdict:
    """Whether a rule holds, what was found, and how many rows or patient-hours break it, where they can be counted."""

    holds: bool
    said: str
    unexpected: int | None = None


def no_verdict(why: str) -> Verdict:
    """There is too little to judge by."""
    return Verdict(holds=True, said=f"{NO_VERDICT}{why}")
