"""MIMIC-IV (PhysioNet layout, v2.2 and later): icu/chartevents and hosp/labevents.

Editions without storetime or text values are read too.
"""

from lakehouse.sources.charted import ChartedSource, Layout

SOURCE = ChartedSource(
    "mimic-iv",
    (
        Layout("chartevents", files=("icu/chartevents", "chartevents"), item_map="mimic_iv_item", stay="stay_id"),
        Layout(
            "labevents",
            files=("hosp/labevents", "labevents"),
            item_map="mimic_iv_lab_item",
            row_id="labevent_id",
            optional=True,
        ),
    ),
)
