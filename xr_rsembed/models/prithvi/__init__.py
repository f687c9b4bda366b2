"""Prithvi-EO: masked autoencoders of Harmonized Landsat and Sentinel-2, told the date and the place if wanted."""
