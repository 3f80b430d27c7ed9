"""Measure what is fast: a clock, a ceiling to compare with, the choice of implementations, the suites of `bench`."""
