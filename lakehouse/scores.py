"""Early-warning scores: bands declared once, from which the Python function and the SQL expression are made.

The SQL is what Spark and DuckDB both take: Spark writes gold, DuckDB derives it as it was known at some instant.

Sources: NEWS2: Royal College of Physicians, National Early Warning Score (NEWS) 2, London 2017 (acknowledged). qSOFA:
Singer et al., Sepsis-3, JAMA 2016;315:801. SIRS: Bone et al., Chest 1992;101:1644.

Missing-data rule: a part without its input has no points, and the score then has no total, but the least and the most
that it can be. Never is a missing input taken as normal.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from math import floor, isfinite

from lakehouse.vocabulary import CONSCIOUSNESS, signal_by_name

Value = float | str | bool | None
Inputs = Mapping[str, Value]
"""Values by input name, in the vocabulary's units; what is not there, None or not finite is missing."""

SPO2_SCALES = (1.0, 2.0)
AIR_FIO2 = 21.0
"""Per cent of oxygen in room air."""


@dataclass(frozen=True)
class Bands:
    """Points of a number: those of the first step whose upper bound (None: no bound) is not below it.

    The number is rounded, half up, to ``decimals`` first: published tables have gaps between their bands, into which
    averages and values converted from Fahrenheit fall.
    """

    steps: tuple[tuple[float | None, int], ...]
    decimals: int = 0

    @property
    def possible(self) -> tuple[int, ...]:
        """Every number of points there is."""
        return tuple(points for _, points in self.steps)

    def of(self, value: Value) -> int | None:
        """The points of a value, None where it is missing."""
        if not isinstance(value, int | float) or not isfinite(value):
            return None
        scale = 10**self.decimals
        whole = floor(value * scale + 0.5)
        return next(points for bound, points in self.steps if bound is None or whole <= round(bound * scale))

    def sql(self, column: str) -> str:
        """The same as a SQL expression."""
        scale = 10**self.decimals
        whole = f"floor(CAST({column} AS DOUBLE) * {scale} + 0.5e0)"
        bounded = ((round(bound * scale), points) for bound, points in self.steps if bound is not None)
        arms = " ".join(f"WHEN {whole} <= {bound} THEN {points}" for bound, points in bounded)
        return f"CASE WHEN {_missing(column)} THEN NULL {arms} ELSE {self.steps[-1][1]} END"


@dataclass(frozen=True)
class Outside:
    """One point for a number below ``below`` or above ``above``, or at one of them where ``inclusive``; else none."""

    below: float | None = None
    above: float | None = None
    inclusive: bool = False
    possible: tuple[int, ...] = (0, 1)

    def of(self, value: Value) -> int | None:
        """The points of a value, None where it is missing."""
        if not isinstance(value, int | float) or not isfinite(value):
            return None
        if self.inclusive and value in (self.below, self.above):
            return 1
        return int((self.below is not None and value < self.below) or (self.above is not None and value > self.above))

    def sql(self, column: str) -> str:
        """The same as a SQL expression."""
        equal = "=" if self.inclusive else ""
        arms = [f"{column} <{equal} {self.below}e0"] if self.below is not None else []
        arms += [f"{column} >{equal} {self.above}e0"] if self.above is not None else []
        return f"CASE WHEN {_missing(column)} THEN NULL WHEN {' OR '.join(arms)} THEN 1 ELSE 0 END"


@dataclass(frozen=True)
class Codes:
    """Points of a coded value, or of one that is true or false; of any other value there are none."""

    points: tuple[tuple[str | bool, int], ...]

    @property
    def possible(self) -> tuple[int, ...]:
        """Every number of points there is."""
        return tuple(points for _, points in self.points)

    def of(self, value: Value) -> int | None:
        """The points of a value, None where it is missing."""
        return next((points for code, points in self.points if code == value), None)

    def sql(self, column: str) -> str:
        """The same as a SQL expression."""
        arms = (f"WHEN {column} = {_literal(code)} THEN {points}" for code, points in self.points)
        return f"CASE {' '.join(arms)} END"


@dataclass(frozen=True)
class Reading:
    """One input of a part and its points; where ``when`` is given, only if that other input has that value."""

    name: str
    rule: Bands | Outside | Codes
    when: tuple[tuple[str, float | bool], ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of a score. The first of its readings that is present gives the points, or, of ``any_of``, the most.

    Where none of them is present, those ``together`` do, by the most points that one of them has: an input of theirs
    that is missing leaves open whether there are more.
    """

    name: str
    readings: tuple[Reading, ...]
    any_of: bool = False
    together: tuple[Reading, ...] = ()

    @property
    def every(self) -> tuple[Reading, ...]:
        """All of its readings, in the order in which they count."""
        return (*self.readings, *self.together)

    @property
    def depends(self) -> bool:
        """Whether another input decides which bands count."""
        return any(reading.when for reading in self.readings)


class Score(StrEnum):
    """The scores there are."""

    NEWS2 = "news2"
    QSOFA = "qsofa"
    SIRS = "sirs"


@dataclass(frozen=True)
class Definition:
    """A score: its parts, inputs that have a value where none is given, and the least total of each risk, descending.

    ``single_risk`` is that of a low total in which one part alone has ``single_points``.
    """

    parts: tuple[Part, ...]
    risks: tuple[tuple[int, str], ...]
    single_points: int | None = None
    single_risk: str | None = None
    defaults: tuple[tuple[str, float], ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every input, in the order of the parts."""
        named = (name for part in self.parts for reading in part.every for name in _names(reading))
        return tuple(dict.fromkeys(named))


def _names(reading: Reading) -> tuple[str, ...]:
    return (*(name for name, _ in reading.when), reading.name)


_ALERT = Codes((("A", 0), *((code, 3) for code in CONSCIOUSNESS if code != "A")))
_SCALE_1 = Bands(((91, 3), (93, 2), (95, 1), (None, 0)))
_SCALE_2_AIR = Bands(((83, 3), (85, 2), (87, 1), (None, 0)))
_SCALE_2_OXYGEN = Bands(((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (None, 3)))

_BEST_GCS = {"gcs_eye": 4, "gcs_verbal": 5, "gcs_motor": 6}
"""The best of each part of the Glasgow coma score, which add up to the full one (Teasdale and Jennett 1974)."""
FULL_GCS = sum(_BEST_GCS.values())


def _coma_parts(points: int) -> tuple[Reading, ...]:
    """The parts of the coma score in place of its total: who is not at the best of one has less than the full score."""
    return tuple(Reading(name, Bands(((best - 1, points), (None, 0)))) for name, best in _BEST_GCS.items())


NEWS2 = Definition(
    parts=(
        Part("respiratory_rate", (Reading("respiratory_rate", Bands(((8, 3), (11, 1), (20, 0), (24, 2), (None, 3)))),)),
        Part(
            "spo2",
            (
                Reading("spo2", _SCALE_1, when=(("spo2_scale", 1),)),
                Reading("spo2", _SCALE_2_AIR, when=(("spo2_scale", 2), ("on_oxygen", False))),
                Reading("spo2", _SCALE_2_OXYGEN, when=(("spo2_scale", 2), ("on_oxygen", True))),
            ),
        ),
        Part("oxygen", (Reading("on_oxygen", Codes(((False, 0), (True, 2)))),)),
        Part("systolic_bp", (Reading("systolic_bp", Bands(((90, 3), (100, 2), (110, 1), (219, 0), (None, 3)))),)),
        Part("heart_rate", (Reading("heart_rate", Bands(((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (None, 3)))),)),
        Part(
            "consciousness",
            # Who charts the Glasgow coma score only: 15 is alert, anything less is not.
            (Reading("consciousness", _ALERT), Reading("gcs", Bands(((FULL_GCS - 1, 3), (None, 0))))),
            together=_coma_parts(3),
        ),
        Part("temperature", (Reading("temperature", Bands(((35, 3), (36, 1), (38, 0), (39, 1), (None, 2)), 1)),)),
    ),
    risks=((7, "high"), (5, "medium"), (0, "low")),
    single_points=3,
    single_risk="low-medium",
    # Scale 2 is for patients of whom it is known that they retain carbon dioxide.
    defaults=(("spo2_scale", 1),),
)
QSOFA = Definition(
    parts=(
        Part("respiratory_rate", (Reading("respiratory_rate", Outside(above=22, inclusive=True)),)),
        Part("systolic_bp", (Reading("systolic_bp", Outside(below=100, inclusive=True)),)),
        Part(
            "consciousness",
            (
                Reading("gcs", Outside(below=FULL_GCS)),
                Reading("consciousness", Codes(tuple((code, int(code != "A")) for code in CONSCIOUSNESS))),
            ),
            together=_coma_parts(1),
        ),
    ),
    risks=((2, "positive"), (0, "negative")),
)
SIRS = Definition(
    parts=(
        Part("temperature", (Reading("temperature", Outside(below=36, above=38)),)),
        Part("heart_rate", (Reading("heart_rate", Outside(above=90)),)),
        # As in mimic-code's sirs.sql, either input alone decides where the other was not measured.
        Part(
            "respiration",
            (Reading("respiratory_rate", Outside(above=20)), Reading("paco2", Outside(below=32))),
            any_of=True,
        ),
        Part(
            "white_cells",
            (Reading("wbc", Outside(below=4, above=12)), Reading("bands_percent", Outside(above=10))),
            any_of=True,
        ),
    ),
    risks=((2, "positive"), (0, "negative")),
)
SCORES: Mapping[Score, Definition] = {Score.NEWS2: NEWS2, Score.QSOFA: QSOFA, Score.SIRS: SIRS}

STALE_AFTER: Mapping[str, timedelta] = {
    **dict.fromkeys(("heart_rate", "respiratory_rate", "spo2", "systolic_bp"), timedelta(hours=2)),
    **dict.fromkeys(("on_oxygen", "consciousness", "gcs", *_BEST_GCS, "temperature"), timedelta(hours=6)),
    **dict.fromkeys(("paco2", "wbc", "bands_percent"), timedelta(hours=24)),
    "spo2_scale": timedelta(days=90),
}
"""How long an input counts after it was observed, by name; a value as old as this still counts.

Monitors send their signals every second and a ward that is worried charts them hourly, so that after two hours nobody
knows them any more. What a nurse charts by hand comes every four to six hours at low scores (NEWS2's own monitoring
table) and stands until then. Laboratory values are taken once a day. The SpO2 scale is a decision about the patient,
which holds until it is replaced; 90 days bound how far back it is looked for.
"""

RESTATED_AFTER = timedelta(hours=6)
"""A row that says what the one before it says is left out, unless that one is older than this: a score that nobody has
confirmed for so long is news again. It also bounds how far back the row before is looked for."""

PARTS = tuple(dict.fromkeys(part.name for definition in SCORES.values() for part in definition.parts))
"""Every part of a score, by name."""
RISKS = tuple(
    dict.fromkeys(
        risk
        for definition in SCORES.values()
        for risk in (*(name for _, name in definition.risks), definition.single_risk)
        if risk
    )
)
"""Every risk of a score."""


@dataclass(frozen=True)
class Source:
    """What a signal says of an input: its number, its code where it is coded, or whether its number is above a bound.

    ``only`` has the values that can be used, where not all can.
    """

    input: str
    above: float | None = None
    only: tuple[float, ...] | tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether every number of the signal is the input as it is."""
        return self.above is None and not self.only

    def of(self, value: float | None, value_code: str | None, coded: bool) -> Value:
        """The input's value, None where the signal has none that can be used."""
        if coded:
            return value_code if value_code in self.only else None
        if value is None or not isfinite(value) or (self.only and value not in self.only):
            return None
        return value if self.above is None else value > self.above


_ITSELF = (
    "heart_rate",
    "respiratory_rate",
    "spo2",
    "systolic_bp",
    "temperature",
    "gcs",
    "gcs_eye",
    "gcs_motor",
    "paco2",
    "wbc",
    "bands_percent",
)
INPUT_OF_SIGNAL: Mapping[str, Source] = {
    **{name: Source(name) for name in _ITSELF},
    "oxygen_saturation": Source("spo2"),
    "consciousness": Source("consciousness", only=CONSCIOUSNESS),
    "spo2_scale": Source("spo2_scale", only=SPO2_SCALES),
    # A patient with a tube says nothing: 0 is charted, and is no answer.
    "gcs_verbal": Source("gcs_verbal", only=(1.0, 2.0, 3.0, 4.0, 5.0)),
    "fio2": Source("on_oxygen", above=AIR_FIO2),
    "oxygen_flow": Source("on_oxygen", above=0.0),
}
"""By signal name, the input that it gives. Of two signals that give one input the newest value counts, and of two at
one instant oxygen before air: a mask may be charted with its flow and with the FiO2 of the room."""


def input_of(signal_name: str, value: float | None, value_code: str | None) -> tuple[str, Value] | None:
    """The input and its value that a usable value of a signal gives; None where it gives none."""
    source = INPUT_OF_SIGNAL.get(signal_name)
    if source is None:
        return None
    found = source.of(value, value_code, signal_by_name()[signal_name].coded)
    return None if found is None else (source.input, found)


def input_sql(code: str, value: str, value_code: str) -> tuple[str, str, str]:
    """The same as SQL expressions of a row's signal code, number and value code: input, its number, its code.

    A truth is the number 1 or 0. Where all that is NULL but the input, the row gives none that can be used.
    """
    finite = f"NOT isnan({value}) AND abs({value}) < CAST('infinity' AS DOUBLE)"
    names: list[str] = []
    numbers: list[str] = []
    codes: list[str] = []
    for name, source in INPUT_OF_SIGNAL.items():
        signal = signal_by_name()[name]
        when = f"WHEN {code} = {_literal(signal.code)}"
        usable = f"{value_code if signal.coded else value} IN ({', '.join(map(_literal, source.only))})"
        names.append(f"{when} THEN {_literal(source.input)}")
        if signal.coded:
            codes.append(f"{when} AND {usable} THEN {value_code}")
            continue
        number = value if source.above is None else f"CAST({value} > {source.above}e0 AS DOUBLE)"
        numbers.append(f"{when} AND {usable if source.only else finite} THEN {number}")
    return tuple(f"CASE {' '.join(arms)} END" for arms in (names, numbers, codes))  # type: ignore[return-value]


@dataclass(frozen=True)
class Scored:
    """One score of one patient at one instant. ``total`` and ``risk`` are None where what is missing could change them.

    ``parts`` has the points by part, None where they are not known.
    """

    total: int | None
    total_min: int
    total_max: int
    risk: str | None
    parts: Mapping[str, int | None]


def score(definition: Definition, inputs: Inputs) -> Scored:
    """Score one set of inputs."""
    known = {**dict(definition.defaults), **{name: value for name, value in inputs.items() if value is not None}}
    ranges = {part.name: _range(part, known) for part in definition.parts}
    low, high = sum(least for least, _ in ranges.values()), sum(most for _, most in ranges.values())
    # A risk never falls when points are added: where both ends agree, so does all between them.
    least = _risk(definition, low, any(pair == (definition.single_points,) * 2 for pair in ranges.values()))
    most = _risk(definition, high, any(pair[1] == definition.single_points for pair in ranges.values()))
    return Scored(
        total=low if low == high else None,
        total_min=low,
        total_max=high,
        risk=least if least == most else None,
        parts={name: pair[0] if pair[0] == pair[1] else None for name, pair in ranges.items()},
    )


def _range(part: Part, known: Inputs) -> tuple[int, int]:
    """The least and the most points that the part can have."""
    can = [reading for reading in part.readings if all(known.get(name) in (None, it) for name, it in reading.when)]
    given = [reading.rule.of(known.get(reading.name)) for reading in can]
    present = [points for points in given if points is not None]
    if present and not part.depends:
        points = max(present) if part.any_of else present[0]
        return points, points
    together = [reading.rule.of(known.get(reading.name)) for reading in part.together]
    if any(points is not None for points in together):
        return max(points or 0 for points in together), max(_possible(part.together, together))
    possible = _possible(can, given)
    return min(possible), max(possible)


def _possible(readings: Iterable[Reading], given: Iterable[int | None]) -> list[int]:
    """All points that these readings may have, where one that is ``given`` has no others."""
    return [
        points
        for reading, own in zip(readings, given, strict=True)
        for points in (reading.rule.possible if own is None else (own,))
    ]


def _risk(definition: Definition, total: int, single: bool) -> str:
    found = next(risk for least, risk in definition.risks if total >= least)
    lowest = definition.risks[-1][1]
    return definition.single_risk if single and found == lowest and definition.single_risk else found


def range_sql(part: Part, columns: Mapping[str, str]) -> tuple[str, str]:
    """The least and the most points of a part as SQL expressions.

    ``columns`` has an expression for each input that there is: numbers, codes as text, truths as BOOLEAN.
    """
    given = [_points_sql(reading, columns) for reading in part.readings]
    together = [_points_sql(reading, columns) for reading in part.together]
    ends: list[str] = []
    for choose, end in ((min, "least"), (max, "greatest")):
        whole = [f"coalesce({own}, {choose(r.rule.possible)})" for r, own in zip(part.readings, given, strict=True)]
        if part.depends:
            ends.append(_of(end, [_where_it_can(r, sql, columns) for r, sql in zip(part.readings, whole, strict=True)]))
            continue
        present = _of("greatest" if part.any_of else "coalesce", given)
        outer = choose(points for reading in part.readings for points in reading.rule.possible)
        ends.append(f"coalesce({', '.join((present, *_together(part, together, choose), str(outer)))})")
    return ends[0], ends[1]


def _points_sql(reading: Reading, columns: Mapping[str, str]) -> str:
    return reading.rule.sql(columns[reading.name]) if reading.name in columns else "NULL"


def _together(part: Part, given: list[str], choose: Callable[[Iterable[int]], int]) -> tuple[str, ...]:
    """The least or the most points of what is read together, NULL where none of it is present."""
    if not part.together:
        return ()
    whole = [f"coalesce({own}, {choose(r.rule.possible)})" for r, own in zip(part.together, given, strict=True)]
    return (f"CASE WHEN coalesce({', '.join(given)}) IS NOT NULL THEN greatest({', '.join(whole)}) END",)


def _where_it_can(reading: Reading, sql: str, columns: Mapping[str, str]) -> str:
    others = (f"coalesce({columns.get(name, 'NULL')} = {_literal(it)}, true)" for name, it in reading.when)
    return f"CASE WHEN {' AND '.join(others)} THEN {sql} END"


def _of(function: str, arguments: list[str]) -> str:
    return arguments[0] if len(arguments) == 1 else f"{function}({', '.join(arguments)})"


def risk_sql(definition: Definition, total: str, single: str) -> str:
    """The risk of a total as a SQL expression; ``single`` says whether one part alone has the points of a single."""
    arms = [f"WHEN {total} >= {least} THEN '{risk}'" for least, risk in definition.risks[:-1]]
    if definition.single_risk:
        arms.append(f"WHEN {single} THEN '{definition.single_risk}'")
    return f"CASE {' '.join(arms)} ELSE '{definition.risks[-1][1]}' END"


def _missing(column: str) -> str:
    return f"{column} IS NULL OR isnan({column}) OR abs({column}) = CAST('infinity' AS DOUBLE)"


def _literal(value: str | float | bool) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
