"""``ward risk``: risks of patients beside the ward, by the model in service."""

from wardhouse.commands.notify import ChannelsOption
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


def risk(data: DataDirOption = DEFAULT_DATA_DIR, channels: ChannelsOption = None) -> None:
    """Score each minute who has new values, by the model in service and the one in its shadow, until it is stopped.

    Risks go to gold.risk_score, and those of the model in service to the topic risk, for rules of the signal
    deterioration_risk. Without a model that can be loaded it says so once, to people of the channel "operations" too,
    and tries again each minute; alerts of all other rules go on.
    """
    import logging
    from contextlib import closing
    from datetime import UTC, datetime

    from alerting.channels import ChannelsError
    from lakehouse.models.registry import RegistryError, connect
    from lakehouse.models.serving import Serving
    from lakehouse.reader import TableMissingError
    from lakehouse.topics import RISK
    from streaming.risk_score import Scorer, Sender, run
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.operations import teller
    from wardhouse.signals import stop_on_signals

    # The client logs every attempt to reach a broker that is away; the scorer says once that it is.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    folder, settings = data_dir(data), Settings()
    with failures(RegistryError, TableMissingError, ChannelsError):
        tell = teller(settings, channels)
        serving = Serving(connect(folder, settings.mlflow_tracking_uri))
        with (
            component(folder, "risk") as running,
            stop_on_signals() as stop,
            closing(Sender(bootstrap_servers(settings, folder), settings.topic(RISK))) as sender,
        ):
            scorer = Scorer(folder, serving, sender.send, tell, folder.progress("risk_score"))
            run(scorer, stop, running.ready, lambda: datetime.now(UTC))
