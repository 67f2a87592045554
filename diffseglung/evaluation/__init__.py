"""Scores of label maps against truth, and the baselines users have today."""
