"""Blueprints, and the layers that networks are made of."""
