"""Recipes that train the networks of this zoo, and what carries them out."""
