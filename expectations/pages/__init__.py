"""Templates of Data Docs in place of those of Great Expectations that ask other hosts for styles and scripts."""
