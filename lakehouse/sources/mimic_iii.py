"""MIMIC-III (PhysioNet, v1.4): CHARTEVENTS of CareVue and MetaVision stays, and LABEVENTS.

Charted rows with ``error = 1`` are entered in error. Laboratory values have no store time.
"""

from lakehouse.sources.charted import ChartedSource, Layout

SOURCE = ChartedSource(
    "mimic-iii",
    (
        Layout(
            "chartevents",
            files=("chartevents",),
            item_map="mimic_iii_item",
            stay="icustay_id",
            row_id="row_id",
            error="error",
        ),
        Layout("labevents", files=("labevents",), item_map="mimic_iii_lab_item", row_id="row_id", optional=True),
    ),
)
