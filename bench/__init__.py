"""What proves the speed. None of it is a test: it prints figures, and goals beside them where there are some."""
