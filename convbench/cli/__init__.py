"""The command line: splitting and normalising the arguments, running Hydra, messages and exit codes."""
