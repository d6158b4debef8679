"""S3 and what is like it. Who asks, and where the store is, is what AWS's own tools read from the environment."""

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lakehouse.stores import MARK, StorageError, Trial, plain

if TYPE_CHECKING:
    from upath import UPath

JARS: tuple[str, str] | None = ("hadoop-aws-*.jar", "S3")
_CREDENTIALS = (
    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
)
"""Who asks: first what a driver whose environment tells it has told its executors, then wherever AWS's tools look."""


def opened(bucket: str, folder: str) -> "UPath":
    """The folder of a bucket. Raises StorageError where the library for it is missing."""
    try:
        import s3fs  # noqa: F401 - what upath opens such places with
        from upath import UPath
    except ImportError:
        raise StorageError(
            "object storage needs s3fs, which is not installed: `uv sync --group storage`, or pip install s3fs"
        ) from None
    # Hadoop's scheme, which deltalake and fsspec know too. Folders that were listed once must not be remembered: Spark
    # writes into them.
    return UPath(f"s3a://{bucket}{folder}", use_listings_cache=False)


def spark_conf(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a Spark session has to be told."""
    conf = {"spark.hadoop.fs.s3a.aws.credentials.provider": ",".join(_CREDENTIALS)}
    if endpoint := endpoint_of(environment):
        conf |= {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
    if region := environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
        conf["spark.hadoop.fs.s3a.endpoint.region"] = region
    return conf


def delta_options(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What deltalake has to be told: it knows no files of credentials, and a region it reads itself."""
    options = {"aws_conditional_put": "etag", **_credentials()}
    if endpoint := endpoint_of(environment):
        options |= {"aws_endpoint_url": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
    return options


def _credentials() -> dict[str, str]:
    found = _who_asks()
    if found is None:
        return {}
    now = found.get_frozen_credentials()
    options = {"aws_access_key_id": now.access_key, "aws_secret_access_key": now.secret_key}
    return {**options, "aws_session_token": now.token} if now.token else options


@cache
def _who_asks() -> Any:
    """Botocore's credentials, which renew themselves; None where it finds none."""
    from botocore.session import get_session

    return get_session().get_credentials()


def lineage_name(place: "UPath") -> tuple[str, str]:
    """Namespace and name, by OpenLineage's rules of naming."""
    return f"s3://{place.drive}", place.path.partition("/")[2]


def trouble(error: Exception) -> str | None:
    """The text of an error that comes from such a store; None for any other."""
    text = plain(error)
    known = any(type(one).__module__.startswith("botocore") for one in (error, error.__cause__))
    return text if known or "S3 error" in text else None


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The store's address, where it is not Amazon's own."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")


def tried(place: "UPath") -> Trial:
    """Write, list, read and remove an object below the place. Raises StorageError where one of it cannot be done."""
    from botocore.exceptions import BotoCoreError, ClientError

    mark = place / f"trial-{uuid4().hex}"
    try:
        bucket, _, key = mark.path.partition("/")
        mark.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=MARK)
        try:
            head = mark.fs.call_s3("head_object", Bucket=bucket, Key=key)
            read, listed = mark.read_bytes(), [one.name for one in place.glob(f"{mark.name}*")]
            if read != MARK or listed != [mark.name]:
                raise StorageError(f"{place}: what was written there is not what is read")
            return Trial(_refuses_again(mark, bucket, key), head.get("ServerSideEncryption"))
        finally:
            mark.fs.call_s3("delete_object", Bucket=bucket, Key=key)
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageError(
            f"{place} cannot be used: {error}. Its bucket must be there, and AWS_ENDPOINT_URL, AWS_REGION,"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be those of a user who may read, write, list and delete"
        ) from error


def _refuses_again(mark: "UPath", bucket: str, key: str) -> bool:
    """Whether the store keeps to a condition that nothing must be there yet. Two writers of a log need that."""
    from botocore.exceptions import ClientError

    try:
        mark.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
    except (OSError, ClientError):
        return True
    return False
