"""Colours and marks. Every meaning has a mark beside its colour, and the colours stay apart for the colour-blind.

The three priorities keep the order of IEC 60601-1-8 (red, yellow, cyan; !!!, !!, !) in the tones of Okabe and Ito
(Color Universal Design, 2008), which differ in lightness as well; black text on each has a contrast above 5:1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Priority:
    """How an alert priority looks; a smaller ``rank`` comes first."""

    name: str
    rank: int
    mark: str
    colour: str


PRIORITIES = {
    priority.name: priority
    for priority in (
        Priority("high", 0, "!!!", "#D55E00"),
        Priority("medium", 1, "!!", "#F0B400"),
        Priority("low", 2, "!", "#56B4E9"),
    )
}

INK_ON_COLOUR = "#111111"
LINE = "#0072B2"
"""A signal's own line: none of the priorities' colours, legible on white and on black."""
ACCENT_ON_DARK = "#6BB8EE"
"""The line's tone for text on a dark ground, where its own is too dim to read."""
UNUSUAL = "#CC79A7"
"""Ground of minutes that are unusual for a patient; no priority: nobody is called by them."""
ARTEFACT = "#808080"
"""Strip of minutes that tell of a sensor and not of the patient."""
