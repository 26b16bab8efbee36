"""The instruments of `whole_run.py` and `scaling.py`: what a run costs, beside another version, beside IMOD, and at its start."""
