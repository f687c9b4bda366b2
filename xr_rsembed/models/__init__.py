"""Models: what they are (``spec``), what runs them (``encoder``), where they are found (``registry``); the families.

A family keeps its torch modules in ``encoder`` and the like, which are imported when it loads: listing models needs no
torch.
"""
