"""Flows and everything that joins the other packages: manifests, Ray, training, evaluation, the `pave` command."""
