"""The suites of `convbench.bench`, the roofline that they compare with, and the files that they write."""
