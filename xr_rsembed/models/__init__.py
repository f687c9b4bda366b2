"""Models: what they are (``spec``), where they are found (``registry``), and one file per family.

Importing this package, or any module of it that does not end in ``_torch``, does not import torch.
"""
