from pathlib import Path

from lakehouse.datadir import DataDir
from wardhouse.up import Options, extra_programs


def test_nothing_runs_beside_the_pipeline_that_was_not_asked_for(tmp_path: Path) -> None:
    assert extra_programs(DataDir(tmp_path), Options()) == ()


def test_databases_are_kept_up_to_date_where_a_sinks_file_is_given(tmp_path: Path) -> None:
    (program,) = extra_programs(DataDir(tmp_path), Options(sinks="/etc/sinks.yaml"))
    assert program.name == "sink"
    assert program.command[-2:] == ("--config", "/etc/sinks.yaml")
