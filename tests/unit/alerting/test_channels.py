from pathlib import Path

import pytest

from alerting.channels import ChannelsError, find, load, parse, service

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "channels.yaml"

TWO = """
channels:
  nurse:
    urls: ["mailto://ward:${MAIL_PASSWORD}@hospital.test?to=nurse@hospital.test"]
    units: {ICU: ["jsons://pager.test/hook/${PAGER_TOKEN}"]}
    per_minute: 10
  doctor:
    urls: ["${DOCTOR_URL}", "json://user:plain-secret@pager.test:8443/"]
"""
ENVIRONMENT = {
    "MAIL_PASSWORD": "p@ss/word:1",
    "PAGER_TOKEN": "token-4711",
    "DOCTOR_URL": "slack://TokenAAAA/TokenBBBBBB/tokencccccc",
}


def test_a_channel_has_its_urls_and_those_of_single_units() -> None:
    found = parse(TWO, "channels.yaml", ENVIRONMENT)
    assert [destination.name for destination in found.values()] == ["nurse", "nurse in ICU", "doctor"]
    assert (found["nurse", "ICU"].per_minute, found["nurse", "ICU"].digest_s, found["nurse", "ICU"].give_up_s) == (
        10,
        60,
        900,
    )
    assert find(found, "nurse", "ICU") is found["nurse", "ICU"]
    assert find(found, "nurse", "WARD") is found["nurse", None]
    assert find(found, "nurse", None) is found["nurse", None]
    assert find(found, "doctor", "ICU") is found["doctor", None]
    assert find(found, "registrar", None) is None


def test_a_variable_is_put_into_a_url_so_that_none_of_its_characters_changes_the_url() -> None:
    found = parse(TWO, "channels.yaml", ENVIRONMENT)
    assert found["nurse", None].urls[0].text == ("mailto://ward:p%40ss%2Fword%3A1@hospital.test?to=nurse@hospital.test")
    assert found["doctor", None].urls[0].text == ENVIRONMENT["DOCTOR_URL"]


def test_what_is_shown_of_a_destination_holds_no_secret() -> None:
    found = parse(TWO, "channels.yaml", ENVIRONMENT)
    assert [service(url) for destination in found.values() for url in destination.urls] == [
        "E-Mail at hospital.test",
        "JSON at pager.test",
        "Slack",
        "JSON at pager.test",
    ]
    assert not any(secret in repr(found) for secret in ("p@ss", "p%40ss", "token-4711", "TokenAAAA", "plain-secret"))


def test_secrets_are_taken_out_of_an_error_in_every_form() -> None:
    found = parse(TWO, "channels.yaml", ENVIRONMENT)
    mail, pager = found["nurse", None].urls[0], found["nurse", "ICU"].urls[0]
    assert mail.redacted("login p@ss/word:1 or p%40ss%2Fword%3A1 refused by hospital.test") == (
        "login *** or *** refused by hospital.test"
    )
    assert pager.redacted("404 at https://pager.test/hook/token-4711") == "404 at https://pager.test/***/***"
    slack = found["doctor", None].urls[0]
    assert slack.redacted("no such team TokenAAAA: tokencccccc") == "no such team ***: ***"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("channels: {}", "c.yaml: channels: Dictionary should have at least 1 item after validation, not 0"),
        ("chanels: {}", "c.yaml: channels: Field required\nc.yaml: chanels: Extra inputs are not permitted"),
        (
            "channels: {nurse: {urls: ['json://user:secret@h/'], colour: red, per_minute: 0}}",
            (
                "c.yaml: channel nurse: per_minute: Input should be greater than or equal to 1\n"
                "c.yaml: channel nurse: colour: Extra inputs are not permitted"
            ),
        ),
        (
            "channels: {nurse: {urls: []}}",
            "c.yaml: channel nurse: urls: Tuple should have at least 1 item after validation, not 0",
        ),
        (
            "channels: {nurse: {urls: 'json://user:secret@h/'}}",
            "c.yaml: channel nurse: urls: Input should be a valid tuple",
        ),
        (
            "channels: {Nurse Station: {urls: ['json://h/']}}",
            "c.yaml: channel Nurse Station: String should match pattern '^[a-z0-9]+(-[a-z0-9]+)*$'",
        ),
        (
            "channels: {nurse: {urls: ['telepathy://user:secret@h/', 'json://h/'], units: {ICU: ['secret']}}}",
            (
                "c.yaml: channel nurse: urls.0: not a URL that apprise can use; `apprise --details` lists them\n"
                "c.yaml: channel nurse: units.ICU.0: not a URL that apprise can use; `apprise --details` lists them"
            ),
        ),
        (
            "channels: {nurse: {urls: ['json://${USER_X}:${USER_Y}@h/']}}",
            "c.yaml: channel nurse: urls.0: not set in the environment: USER_X, USER_Y",
        ),
        (
            "channels:\n  nurse: {urls: ['json://user:secret@h/']}\n  nurse: {urls: ['json://h/']}",
            "c.yaml: not readable as YAML in line 2: given twice: nurse",
        ),
        ("channels: ['json://user:secret@h/", "c.yaml: not readable as YAML in line 1: found unexpected end of stream"),
        ("", "c.yaml: Input should be a valid dictionary or instance of ChannelsFile"),
    ],
)
def test_a_file_that_cannot_be_used_names_file_channel_and_field_and_no_secret(text: str, error: str) -> None:
    with pytest.raises(ChannelsError) as raised:
        parse(text, "c.yaml", {})
    assert str(raised.value) == error


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChannelsError, match=r"none\.yaml: cannot be read: FileNotFoundError"):
        load(tmp_path / "none.yaml", {})


def test_the_example_of_the_documentation_can_be_used() -> None:
    found = load(EXAMPLE, {"MAIL_PASSWORD": "a-secret", "PAGER_TOKEN": "another-one"})
    assert [(destination.name, [service(url) for url in destination.urls]) for destination in found.values()] == [
        ("nurse", ["E-Mail at hospital.example"]),
        ("nurse in ICU", ["E-Mail at hospital.example", "JSON at pager.hospital.example"]),
        ("doctor", ["JSON at pager.hospital.example"]),
    ]


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (EXAMPLE.parents[1] / "notification.md").read_text(encoding="utf-8")
    declared = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert "\n".join(declared) in page
