"""Where scenes come from: ``stac`` and ``gee``, behind one request and one contract (see ``base``)."""
