"""The command line. A package of its own, as one inside larq_sks would wait for TensorFlow to say `--help`."""
