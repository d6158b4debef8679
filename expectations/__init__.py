"""Great Expectations suites made from the declarations, and hand-written rules."""
