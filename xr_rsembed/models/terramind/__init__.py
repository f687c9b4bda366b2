"""TerraMind, one any-to-any transformer over modalities."""
