"""Comparisons of finished runs: statistics, tables, figures, the HTML page and TensorBoard curves."""
