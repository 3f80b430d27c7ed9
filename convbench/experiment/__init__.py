"""Experiments: a network and its training built from a configuration, training runs, and the evaluation of a run."""
