"""Where tables and checkpoints are: in the data dir, or in object storage that the data dir names.

A data dir whose file ``storage`` names a URI has its tables and checkpoints there. It is a fact of the data dir and no
option of a command: whoever opens it, finds the same tables. Processes, logs, the spool and the embedded broker stay.

Java and Python are told where the store is, and who asks, by what AWS's own tools read from the environment
(``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` ..): no secret of a store is a setting of ours.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

if TYPE_CHECKING:
    from upath import UPath

    Place = Path | UPath
    """A folder or file, of this machine or of object storage."""

_SCHEMES = ("s3", "s3a")
_REMOTE = tuple(f"{scheme}://" for scheme in _SCHEMES)
_CREDENTIALS = (
    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
)
"""Who asks: first what a driver whose environment tells it has told its executors, then wherever AWS's tools look."""
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|\u21b3")
"""Colours and arrows of deltalake's errors."""
_MARK = b"written by ward storage"


class StorageError(RuntimeError):
    """Storage that is not there, not ours to use, or not of a kind that is known; the text says what to do."""


def named_by(root: Path) -> "Place":
    """The parent of a data dir's tables and checkpoints. Raises StorageError for a damaged file."""
    try:
        uri = file_of(root).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return root
    return at(uri)


def file_of(root: Path) -> Path:
    """The file of a data dir that names its storage."""
    return root / "storage"


def at(uri: str) -> "UPath":
    """The folder of this URI. Raises StorageError where it is not one that can hold tables."""
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES or not parts.netloc or parts.query or parts.fragment:
        raise StorageError(f"{uri!r} names no storage: give s3a://BUCKET/FOLDER")
    try:
        import s3fs  # noqa: F401 - what upath opens such places with
        from upath import UPath
    except ImportError:
        raise StorageError(
            "object storage needs s3fs, which is not installed: `uv sync --group storage`, or pip install s3fs"
        ) from None
    # Hadoop's scheme, which deltalake and fsspec know too. Folders that were listed once must not be remembered: Spark
    # writes into them.
    return UPath(f"s3a://{parts.netloc}{parts.path.rstrip('/')}", use_listings_cache=False)


def of_uri(uri: str) -> "Place":
    """A file of a table, as deltalake names it."""
    return at(uri) if uri.startswith(_REMOTE) else Path(uri.removeprefix("file://"))


def is_local(place: "Place") -> bool:
    """Whether it is a folder of this machine."""
    return isinstance(place, Path)


def copy(source: "Place", target: Path) -> None:
    """Bring a file or a folder, with all that is in it, to this machine."""
    if isinstance(source, Path):
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    else:
        source.fs.get(source.path, str(target), recursive=source.is_dir())


def spark_conf(place: "Place", environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a Spark session has to be told to read and write there."""
    if isinstance(place, Path):
        return {}
    conf = {"spark.hadoop.fs.s3a.aws.credentials.provider": ",".join(_CREDENTIALS)}
    if endpoint := endpoint_of(environment):
        conf |= {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
    if region := environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
        conf["spark.hadoop.fs.s3a.endpoint.region"] = region
    return conf


def delta_options(place: "Place", environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """What deltalake has to be told: it knows no files of credentials, and a region it reads itself."""
    if isinstance(place, Path):
        return None
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


def trouble(error: Exception) -> str | None:
    """What a person is told of an error that comes from a store; None for any other."""
    text = " ".join(_DECORATION.sub(" ", str(error)).split())
    known = any(type(one).__module__.startswith("botocore") for one in (error, error.__cause__))
    if not known and "S3 error" not in text:
        return None
    return f"the store of tables and checkpoints: {text}. `ward storage check` says whether it can be used"


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The store's address, where it is not Amazon's own."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class Trial:
    """What a store did when it was tried: ``exclusive`` says whether it refuses to write what is there already.

    ``encryption`` is how it keeps what it was given, by its own word (``AES256``, ``aws:kms``); None where it has none.
    """

    exclusive: bool
    encryption: str | None


def tried(place: "UPath") -> Trial:
    """Write, list, read and remove an object below the place. Raises StorageError where one of it cannot be done."""
    from botocore.exceptions import BotoCoreError, ClientError

    mark = place / f"trial-{uuid4().hex}"
    try:
        bucket, _, key = mark.path.partition("/")
        mark.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=_MARK)
        try:
            head = mark.fs.call_s3("head_object", Bucket=bucket, Key=key)
            read, listed = mark.read_bytes(), [one.name for one in place.glob(f"{mark.name}*")]
            if read != _MARK or listed != [mark.name]:
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
