"""One offline page about a run: who annotated what, how training went, how good the predictions are, and where they fail."""
