"""MIMIC-III (PhysioNet, v1.4): CHARTEVENTS of CareVue and MetaVision stays; ``error = 1`` rows are entered in error."""

from lakehouse.sources.charted import ChartedSource, Layout

SOURCE = ChartedSource("mimic-iii", Layout(files=("chartevents",), stay="icustay_id", row_id="row_id", error="error"))
