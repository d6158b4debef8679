from pathlib import Path

import pytest

from lakehouse.kafka_access import Access, AccessError, client, of_process, unanswered


@pytest.fixture
def secured(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "password").write_text('pass"word\\\n')
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_FILE": str(tmp_path / "ca.pem"),
        "KAFKA_SASL_USERNAME": "ward-router",
        "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
    }


def test_without_a_word_a_process_connects_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_SECURITY_PROTOCOL", "KAFKA_SSL_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert of_process({}) == Access()
    assert client("a:1,b:2") == {"bootstrap_servers": ["a:1", "b:2"]}
    assert Access().java() == {}


def test_both_kinds_of_clients_are_told_the_same(secured: dict[str, str]) -> None:
    access = of_process(secured)
    assert access.python() == {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": secured["KAFKA_SSL_CA_FILE"],
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ward-router",
        "sasl_plain_password": 'pass"word\\',
    }
    assert access.java() == {
        "security.protocol": "SASL_SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": "-----BEGIN CERTIFICATE-----\n",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required"
            ' username="ward-router" password="pass\\"word\\\\";'  # pragma: allowlist secret
        ),
    }
    assert "pass" not in repr(access)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL is TLS: give one of PLAINTEXT, SSL,"),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM is GSSAPI: give one of SCRAM-SHA-512,"),
        ({"KAFKA_SASL_USERNAME": ""}, "say who connects with KAFKA_SASL_USERNAME"),
        ({"KAFKA_SASL_PASSWORD_FILE": "/nowhere"}, "KAFKA_SASL_PASSWORD_FILE: cannot read /nowhere: No such file"),
        ({"KAFKA_SSL_CA_FILE": "/nowhere"}, "KAFKA_SSL_CA_FILE: cannot read /nowhere: No such file"),
    ],
)
def test_what_is_not_said_well_is_named(secured: dict[str, str], changes: dict[str, str], says: str) -> None:
    with pytest.raises(AccessError) as told:
        of_process({**secured, **changes})
    assert says in str(told.value)


def test_where_nobody_lets_us_in_the_text_names_what_may_be_wrong(
    secured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_SECURITY_PROTOCOL", raising=False)
    assert unanswered("a:1").startswith("no Kafka broker answers at a:1: start one with 'ward broker'")
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    assert unanswered("a:1") == (
        "no Kafka broker at a:1 lets us in by SASL_SSL as ward-router:"
        " correct KAFKA_BOOTSTRAP_SERVERS or KAFKA_SSL_CA_FILE or KAFKA_SASL_PASSWORD_FILE"
    )
