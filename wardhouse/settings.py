"""Typed settings: read once, at an entry point, from the environment, and passed on as values."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS, Topic

DEFAULT_DATA_DIR = Path(".ward")
DEFAULT_BROKER_PORT = 9092
GATEWAY_PORT = 8000
MLLP_PORT = 2575
EDGE_PORT = 8010
DASHBOARD_PORT = 8501


def _default_jars() -> Path:
    """The folder that set-up fills, beside the environment it made: a command may be called from anywhere."""
    beside = Path(sys.prefix).parent / ".jars"
    return beside if beside.is_dir() else Path(".jars")


class Settings(BaseSettings):
    """What the environment may set. Names carry the prefix WARD_, but for Kafka's own KAFKA_BOOTSTRAP_SERVERS."""

    model_config = SettingsConfigDict(env_prefix="WARD_", extra="ignore")

    kafka_bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    """Brokers to use instead of the embedded one."""
    jars: Path = Field(default_factory=_default_jars, validate_default=True)
    """Folder that set-up filled: ``spark`` and ``kafka`` below it."""
    topic_names: dict[str, str] = {}
    """A site's own topic names by declared name, as JSON: {"vitals": "patient-data"}."""
    partitions: int | None = Field(default=None, ge=1)
    """Partitions of each topic that is divided by patient, when topics are made; without it two."""

    spark_master: str | None = None
    """Spark master of a cluster (``spark://host:port``, ``k8s://https://host:port``); without one, threads of ours."""
    spark_executors: int = 2
    """Executors of each session on a cluster."""
    spark_executor_cores: int | None = None
    """Task slots of each of them; None for what the application asks for."""
    spark_executor_memory: str = "2g"
    spark_driver_host: str | None = None
    """Where executors reach a driver, if not at the address that it has towards the master."""
    spark_executor_jars: str | None = None
    """Folder on every worker that holds our jars; without one each executor gets them from the driver."""

    channels: Path | None = None
    """Channels file of ``ward notify``; without one nobody is told of alerts outside this stack."""

    oidc_issuer: str | None = None
    """Issuer of an OpenID Connect provider, whose bearer tokens the gateway then takes."""
    oidc_audience: str | None = None
    """What such a token must be for."""
    oidc_roles_claim: str = "scope"
    """The claim that says what somebody may do; dots lead into objects, as in realm_access.roles."""
    oidc_roles: dict[str, list[str]] | None = None
    """Scopes by what that claim holds, as JSON: {"ward-nurse": ["read", "alert"]}; left out, each is its own name."""
    oidc_units_claim: str | None = None
    """The claim that lists somebody's care units, or "*"; named, a token without it sees no patient."""
    oidc_client_id: str | None = None
    """This dashboard's name at the provider: then people sign in."""
    oidc_client_secret_file: Path | None = None
    """File with the dashboard's secret at the provider."""
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    """MLflow server that has the models instead of the data dir."""

    dashboard_url: str | None = None
    """Where people reach the dashboard, if not at its own address: https://ward.example."""

    @field_validator("jars")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        # The broker runs in a folder of its own.
        return path.resolve()

    def topic(self, topic: Topic) -> str:
        """The name under which this site keeps a declared topic."""
        return self.topic_names.get(topic.name, topic.name)

    def topics(self) -> dict[str, str]:
        """Site names of every declared topic, by declared name."""
        return {topic.name: self.topic(topic) for topic in TOPICS}


DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", envvar="WARD_DATA_DIR", help="Folder that holds tables, checkpoints, broker and logs."),
]


def data_dir(path: Path) -> DataDir:
    """The data dir of a command's --data-dir, made absolute."""
    return DataDir(path.resolve())
