"""CNN features of images: backbones, decoding, featurizer."""
