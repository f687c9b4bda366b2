"""From a user's scene to inputs that an encoder may see: what the bands are, what the numbers mean, what is valid.

``read`` is the way in. One scene goes through ``scene``, from top to bottom: what is stored beside its pixels
(``stored``), its names (``labels``), its modality (``modality``), its units (``units``), its orientation; several go
through ``joint`` first. What comes out is an ``Input`` (``record``). The engine holds each block's pixels to it
(``guard``).
"""
