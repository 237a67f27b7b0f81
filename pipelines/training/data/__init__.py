"""What a training reads: features and captions, or pairs of sentences, as batches."""
