"""How this process reaches Kafka: in the clear, or with TLS and as a user, as its environment says.

Who connects is a property of the process: each component may have a user of its own, with no more rights than it needs
(``ward acl``). So the environment says it, under the names below, and nothing else hands it on: no command line, no
file of the data dir, no log.

======================== ====================================================================
KAFKA_SECURITY_PROTOCOL  PLAINTEXT (if nothing is said), SSL, SASL_SSL or SASL_PLAINTEXT
KAFKA_SSL_CA_FILE        certificates of who signs the brokers', PEM; without it the system's
KAFKA_SASL_MECHANISM     SCRAM-SHA-512 (if nothing is said), SCRAM-SHA-256 or PLAIN
KAFKA_SASL_USERNAME      the user
KAFKA_SASL_PASSWORD_FILE file with the password, and nothing else
======================== ====================================================================
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_LOGIN_MODULES = {
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
}


class AccessError(ValueError):
    """The environment does not say how to reach Kafka; the text names the variable and what to do."""


@dataclass(frozen=True)
class Access:
    """Protocol, authority, and a user with a password where the protocol has one."""

    protocol: str = PROTOCOLS[0]
    ca_file: Path | None = None
    mechanism: str = MECHANISMS[0]
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether what is sent is encrypted on the way."""
        return self.protocol.endswith("SSL")

    def python(self) -> dict[str, Any]:
        """Options of a client of kafka-python."""
        options: dict[str, Any] = {} if self.protocol == PROTOCOLS[0] else {"security_protocol": self.protocol}
        if self.encrypted and self.ca_file is not None:
            options["ssl_cafile"] = str(self.ca_file)
        if self.user is not None:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"], options["sasl_plain_password"] = self.user, self.password
        return options

    def java(self) -> dict[str, str]:
        """Properties of a client of Kafka's own. The authority travels as text: executors have no file of it."""
        options = {} if self.protocol == PROTOCOLS[0] else {"security.protocol": self.protocol}
        if self.encrypted and self.ca_file is not None:
            options["ssl.truststore.type"] = "PEM"
            options["ssl.truststore.certificates"] = self.ca_file.read_text(encoding="ascii")
        if self.user is not None:
            module = _LOGIN_MODULES[self.mechanism]
            options["sasl.mechanism"] = self.mechanism
            options["sasl.jaas.config"] = (
                f"{module} required username={_quoted(self.user)} password={_quoted(self.password or '')};"
            )
        return options


def of_process(environ: Mapping[str, str] = os.environ) -> Access:
    """What the environment says. Raises AccessError."""
    protocol = _one_of(environ, "KAFKA_SECURITY_PROTOCOL", PROTOCOLS)
    ca_file = _file(environ, "KAFKA_SSL_CA_FILE")
    if not protocol.startswith("SASL"):
        return Access(protocol, ca_file)
    user, secret = environ.get("KAFKA_SASL_USERNAME"), _file(environ, "KAFKA_SASL_PASSWORD_FILE")
    if not user or secret is None:
        raise AccessError(
            f"KAFKA_SECURITY_PROTOCOL is {protocol}: say who connects with KAFKA_SASL_USERNAME and"
            " KAFKA_SASL_PASSWORD_FILE"
        )
    password = secret.read_text(encoding="utf-8").rstrip("\r\n")
    return Access(protocol, ca_file, _one_of(environ, "KAFKA_SASL_MECHANISM", MECHANISMS), user, password)


def client(bootstrap: str) -> dict[str, Any]:
    """Where and as whom a client of kafka-python connects. Raises AccessError."""
    return {"bootstrap_servers": bootstrap.split(","), **of_process().python()}


def java(bootstrap: str) -> dict[str, str]:
    """Where and as whom a client of Kafka's own connects. Raises AccessError."""
    return {"bootstrap.servers": bootstrap, **of_process().java()}


def unanswered(bootstrap: str) -> str:
    """What to say where no broker lets us in. Brokers that refuse a user do so again and again, like those away."""
    access = of_process()
    if access.protocol == PROTOCOLS[0]:
        return (
            f"no Kafka broker answers at {bootstrap}: start one with 'ward broker', or correct KAFKA_BOOTSTRAP_SERVERS"
        )
    names = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SSL_CA_FILE", *(("KAFKA_SASL_PASSWORD_FILE",) if access.user else ()))
    whom = f" as {access.user}" if access.user else ""
    return f"no Kafka broker at {bootstrap} lets us in by {access.protocol}{whom}: correct {' or '.join(names)}"


def _one_of(environ: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    said = environ.get(name) or known[0]
    if said not in known:
        raise AccessError(f"{name} is {said}: give one of {', '.join(known)}")
    return said


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    if not (said := environ.get(name)):
        return None
    path = Path(said)
    try:
        path.open("rb").close()
    except OSError as error:
        raise AccessError(f"{name}: cannot read {path}: {error.strerror}") from error
    return path


def _quoted(text: str) -> str:
    """As a value in a login configuration of Java's."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
