"""Trained models at work: captioner and translator."""
