"""Reports: self-contained pages of captions, translations and searches."""
