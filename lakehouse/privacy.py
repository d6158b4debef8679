"""What each column says about a person, and which tables may leave the lakehouse: the one place that says so.

A column is classified by its name, which means one thing in nearly every table. A column that is not
named here, and a table that neither has a patient nor counts patients, are not exported at all: nothing new leaks by
default.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

PATIENT = "patient_id"
"""The column by which a row belongs to a patient."""
COUNT = "patients"
"""The column by which a row of an aggregate table says how many patients it was made of."""

NEVER = ("bronze", "quality", "operation")
"""Layers that never leave: raw messages, and what concerns the running of the stack."""
STAYING = (
    *("silver.dead_letter", "silver.waveform_dead_letter", "silver.clinical_resource", "silver.waveform_chunk"),
    *("gold.audit_event", "mart.alert_burden"),
)
"""Tables of other layers that never leave: records that nobody could read, resources as they were sent, waveforms, by
which a heart can be told from others, what members of staff looked at, and the alerts of a unit's day, which do not say
of how many patients."""

_VITAL_SIGNS = (
    *("heart_rate", "systolic_bp", "diastolic_bp", "mean_bp", "respiratory_rate", "temperature", "spo2", "glucose"),
    *("systolic_bp_cuff", "diastolic_bp_cuff", "mean_bp_cuff"),
)


class Privacy(StrEnum):
    """What becomes of a column in a de-identified export."""

    KEPT = "kept"
    """As it is: it is about the measurement and not about who was measured."""
    PSEUDONYM = "pseudonym"
    """Replaced by a keyed pseudonym; equal values stay equal, in every table."""
    SHIFTED = "shifted"
    """An instant or a date of the patient's own course, moved by the patient's own whole days."""
    AGE = "age"
    """Years of age; above 89 they become 90."""
    BIRTH = "birth"
    """A date of birth, shifted with the patient, or its year; NULL where that is 90 years before the snapshot."""
    DROPPED = "dropped"
    """Left out: it identifies, may hold anything, or repeats what other columns say about instants and identifiers."""


_COLUMNS: Mapping[Privacy, tuple[str, ...]] = {
    Privacy.KEPT: (
        # Of observations.
        *("code", "value", "value_code", "unit", "status", "source", "source_code", "source_value", "source_unit"),
        *("recorded_at_inferred", "values_in_message", "failed_constraints", "location_unit"),
        # Of statistics and scores.
        *("count", "min", "mean", "max", "first", "last"),
        *("input", "score", "total", "total_min", "total_max", "risk", "parts"),
        *("model", "model_version", "role", "contributions"),
        # Of rhythm.
        *("lead", "beats", "good_beats", "premature", "intervals", "mean_rr", "min_rr", "max_rr", "sdnn", "rmssd"),
        *("pnn50", "irregularity", "good_share", "noise_share", "flat_share", "saturated_share", "lead_off_share"),
        # Of alerts, and of what was told of them.
        *("sequence", "sequences", "state", "reason", "rule_id", "title", "kind", "pack", "priority", "category"),
        *("limit_value", "escalation_step", "escalations", "step", "attempts"),
        # Of patients and their stays.
        *("gender", "class", "type", "admit_source", "discharge_disposition", "died"),
        *("age_group", "care_unit", "length_of_stay_days", "admission_type", "admitted_from", "discharged_to"),
        *("stay_of_admission", "stay_of_patient", "died_in_hospital", "death_within_24_hours"),
        *("hours_since_start", "hours_to_death", "change", "news2_min", "news2_max"),
        # Signals by name, and their statistics.
        *_VITAL_SIGNS,
        *(f"{name}_{statistic}" for name in _VITAL_SIGNS for statistic in ("min", "max", "mean")),
        *("eye", "verbal", "motor", "intubated"),
        # Of aggregate tables.
        COUNT,
    ),
    Privacy.PSEUDONYM: (
        *(PATIENT, "encounter_id", "device_id", "observation_id"),
        *("alert_id", "alert_ids", "notification_id", "digest_id", "stay_id", "admission_id"),
    ),
    Privacy.SHIFTED: (
        *("observed_at", "recorded_at", "stale_at", "minute", "hour", "opened_at"),
        *("started_at", "silver.encounter.ended_at", "mart.icu_stay.ended_at", "deceased_on"),
        *("admitted_at", "discharged_at", "hospital_death_at"),
        *("landmark_at", "onset_at", "confirmed_at", "known_at", "stands_until"),
    ),
    Privacy.AGE: ("age", "age_years"),
    Privacy.BIRTH: ("birth_date", "birth_year"),
    Privacy.DROPPED: (
        # By the clock of the stack, which all patients share: a file of history arrives in one minute, and that minute,
        # moved with each patient, would tell by how many days each was moved.
        *("received_at", "message_received_at", "emitted_at", "decided_at", "scored_at"),
        *("active_at", "acknowledged_at", "ended_at", "changed_at", "silver.patient.recorded_at"),
        # Coordinates, keys of the source, and a hash that is made of them.
        *("topic", "partition", "offset", "message_id", "record_id", "version"),
        *("location", "location_bed"),
        # Resources as they were sent, and stays that others are part of.
        *("resource", "part_of"),
        # Members of staff, their words, and their addresses.
        *("actor", "acknowledged_by", "note", "muted_by", "channel", "channels", "error"),
        # Lists that hold instants and identifiers; their totals and parts stand beside them.
        *("inputs", "readings"),
    ),
}
PRIVACY: Mapping[str, Privacy] = {name: privacy for privacy, names in _COLUMNS.items() for name in names}
"""What each column is, by its name; where one table means something else by it, by its full name."""


class PrivacyError(ValueError):
    """A table must not leave as it is; the text says which columns are the reason and where to classify them."""


@dataclass(frozen=True)
class Exportable:
    """A table that may leave: with a row of a patient each, or, as an aggregate, with rows that count patients."""

    name: str
    columns: Mapping[str, Privacy]
    aggregate: bool


def may_leave(name: str) -> bool:
    """Whether a table may leave the lakehouse at all, by its full name."""
    return name.split(".")[0] not in NEVER and name not in STAYING


def exportable(name: str, columns: Iterable[str]) -> Exportable:
    """How a table of these columns leaves, de-identified. Raises PrivacyError where it must not."""
    found = {column: PRIVACY.get(f"{name}.{column}", PRIVACY.get(column)) for column in columns}
    known = {column: privacy for column, privacy in found.items() if privacy is not None}
    if not may_leave(name):
        raise PrivacyError(f"{name} never leaves the lakehouse")
    if unknown := [column for column in found if column not in known]:
        raise PrivacyError(
            f"{name} has columns that nobody has classified in lakehouse/privacy.py: {', '.join(unknown)}"
        )
    if PATIENT not in found and COUNT not in found:
        raise PrivacyError(
            f"{name} has neither {PATIENT} nor, as an aggregate, {COUNT}: nothing says whom a row is about"
        )
    return Exportable(name, known, PATIENT not in found)
