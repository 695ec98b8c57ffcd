"""`python -m larq_sks_cli`, where the script `larq-sks` is not at hand."""

from larq_sks_cli.commands import main

main(prog_name="larq-sks")
