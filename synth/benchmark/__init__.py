"""`python -m synth.benchmark`: what semantics cost, by the number of classes, beside the published ways."""
