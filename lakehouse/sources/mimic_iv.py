"""MIMIC-IV (PhysioNet layout, v2.2 and later): icu/chartevents, also of editions without storetime or text values."""

from lakehouse.sources.charted import ChartedSource, Layout

SOURCE = ChartedSource(
    "mimic-iv", Layout(files=("icu/chartevents", "chartevents"), stay="stay_id", row_id=None, error=None)
)
