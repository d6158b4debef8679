from tests.fixtures.pages import page, rows, unknown_tests

PAGE = page("compliance.md")


def test_every_test_that_the_page_names_exists() -> None:
    assert unknown_tests(PAGE) == []


def test_every_rule_names_a_test_or_says_that_nothing_does_it() -> None:
    rules = rows(PAGE, "| rule")

    assert len(rules) > 30
    assert [row for row in rules if "::test_" not in row and "**no**" not in row] == []
    assert [row for row in rules if row.count(" |") != 4] == []
