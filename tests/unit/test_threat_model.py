from tests.fixtures.pages import page, rows, unknown_tests

PAGE = page("threat-model.md")


def test_every_test_that_the_threat_model_names_exists() -> None:
    assert unknown_tests(PAGE) == []


def test_every_threat_names_a_test() -> None:
    threats = rows(PAGE, "| who could")

    assert len(threats) > 30
    assert [row for row in threats if "::test_" not in row] == []
