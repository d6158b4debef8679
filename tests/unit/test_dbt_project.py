"""What the models of dbt_project read and write is what their flow declares."""

import re

from lakehouse.pipeline import COHORTS
from wardhouse.commands.dbt import PROJECT

MODELS = PROJECT / "models"


def test_the_flow_writes_the_marts():
    assert sorted(COHORTS.writes) == sorted(f"mart.{model.stem}" for model in (MODELS / "marts").glob("*.sql"))


def test_the_flow_reads_the_sources_of_the_models():
    read = {
        ".".join(source)
        for model in MODELS.rglob("*.sql")
        for source in re.findall(r"source\('(\w+)', '(\w+)'\)", model.read_text(encoding="utf-8"))
    }
    assert set(COHORTS.reads) == read


def test_every_model_states_its_grain_source_and_missing_data():
    for model in MODELS.rglob("*.sql"):
        head = model.read_text(encoding="utf-8").partition("-#}")[0]
        assert [word for word in ("Grain:", "Source:", "Missing data:") if word not in head] == [], model
