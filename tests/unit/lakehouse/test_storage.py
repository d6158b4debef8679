import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse import storage
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_LIMITS, OBSERVATION
from lakehouse.stores import StorageError, s3
from lakehouse.tables import OBSERVATION as TABLE


def test_a_data_dir_has_its_tables_itself_until_it_names_a_place(tmp_path: Path) -> None:
    assert DataDir(tmp_path).table(TABLE) == tmp_path / "tables" / "silver" / "observation"
    storage.file_of(tmp_path).write_text("s3a://hospital/wards\n")

    named = DataDir(tmp_path)
    assert str(named.table(TABLE)) == "s3a://hospital/wards/tables/silver/observation"
    assert not storage.is_local(named.lake)


def test_alerts_wait_for_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A lake that is another folder stands for one that is far away: which of the two a checkpoint is in, is the point.
    lake = tmp_path / "lake"
    monkeypatch.setattr(storage, "named_by", lambda _: lake)
    data = DataDir(tmp_path / "ward")

    assert data.checkpoint(ALERT_LIMITS) == tmp_path / "ward" / "checkpoints" / "alert_limits" / "1"
    assert data.checkpoint(OBSERVATION) == lake / "checkpoints" / "observation" / "1"


@pytest.mark.parametrize(
    "uri", ["", "wards", "/srv/wards", "s3a://", "s3a:///wards", "s3a://b/c?d=e", "hdfs:///wards", "abfss://c@a/wards"]
)
def test_what_names_no_storage_is_refused_by_name(uri: str, tmp_path: Path) -> None:
    storage.file_of(tmp_path).write_text(uri)
    with pytest.raises(StorageError, match="names no storage: give s3a://BUCKET/FOLDER or hdfs://"):
        _ = DataDir(tmp_path).lake


def test_s3_and_s3a_are_one_place_however_its_folder_is_written() -> None:
    assert {str(storage.at(uri)) for uri in ("s3://b/c", "s3a://b/c", "s3a://b/c/")} == {"s3a://b/c"}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials but those of a file that may be written."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    s3._who_asks.cache_clear()
    yield
    s3._who_asks.cache_clear()


@pytest.mark.usefixtures("nobody")
def test_deltalake_is_told_who_asks_where_only_a_file_says_so(tmp_path: Path) -> None:
    place = storage.at("s3a://hospital/wards")
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = ward\naws_secret_access_key = kept\naws_session_token = until-noon\n"
    )
    assert storage.delta_options(place, {}) == {
        "aws_conditional_put": "etag",
        "aws_access_key_id": "ward",
        "aws_secret_access_key": "kept",  # pragma: allowlist secret
        "aws_session_token": "until-noon",
    }


@pytest.mark.usefixtures("nobody")
def test_spark_and_deltalake_are_told_what_the_environment_says() -> None:
    place = storage.at("s3a://hospital/wards")
    own = {
        "AWS_ENDPOINT_URL": "http://store:9000",
        "AWS_REGION": "eu-central-1",
        "AWS_SECRET_ACCESS_KEY": "hidden",  # pragma: allowlist secret
    }

    told = storage.spark_conf(place, own)
    assert told["spark.hadoop.fs.s3a.endpoint"] == "http://store:9000"
    assert told["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert told["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert storage.delta_options(place, own) == {
        "aws_conditional_put": "etag",
        "aws_endpoint_url": "http://store:9000",
        "aws_allow_http": "true",
    }
    assert "hidden" not in str((told, storage.delta_options(place, own)))

    assert not any("endpoint" in name for name in storage.spark_conf(place, {}))
    assert storage.delta_options(place, {}) == {"aws_conditional_put": "etag"}
    # That of S3 alone goes before that of all of AWS, as AWS's own tools have it.
    both = {"AWS_ENDPOINT_URL": "http://store", "AWS_ENDPOINT_URL_S3": "https://store"}
    assert storage.delta_options(place, both) == {
        "aws_conditional_put": "etag",
        "aws_endpoint_url": "https://store",
        "aws_allow_http": "false",
    }


def test_a_place_in_hdfs_names_its_name_node_wherever_it_goes() -> None:
    place = storage.at("hdfs://127.0.0.1:9000/wards/")

    assert str(place / "tables" / "gold") == "hdfs://127.0.0.1:9000/wards/tables/gold"
    assert str(storage.of_uri("hdfs://127.0.0.1:9000/wards/x")) == "hdfs://127.0.0.1:9000/wards/x"
    with pytest.raises(StorageError, match=r"^hdfs://names/wards leads to no name node: .*Give its port, or"):
        storage.at("hdfs://names/wards")
    assert storage.lineage_name(place / "tables") == ("hdfs://127.0.0.1:9000", "/wards/tables")
    assert (storage.delta_options(place), storage.spark_conf(place), storage.jars(place)) == ({}, {}, None)


def test_a_disk_needs_to_be_told_nothing(tmp_path: Path) -> None:
    assert (storage.spark_conf(tmp_path), storage.delta_options(tmp_path)) == ({}, None)


def test_a_data_dir_on_a_disk_opens_no_library_of_object_storage(tmp_path: Path) -> None:
    text = (
        "import sys; from pathlib import Path; from lakehouse.datadir import DataDir; DataDir(Path(sys.argv[1])).lake"
    )
    text += "; print([name for name in ('upath', 's3fs', 'fsspec', 'botocore') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", text, tmp_path], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
