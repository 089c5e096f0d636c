"""Recipes: one YAML file in, a frozen `Recipe` out, or every mistake in it at once."""
