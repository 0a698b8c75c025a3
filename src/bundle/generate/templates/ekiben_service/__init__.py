"""Serves the functions of a model over HTTP. Written by Ekiben; `python -m ekiben_service` starts it."""
