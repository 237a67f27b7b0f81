"""What the verbs read: listings, shards, captions, corpora."""
