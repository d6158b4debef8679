"""The library: declarations, vocabulary, pure transforms, scores, and the only Delta IO. Imports none of the others."""
