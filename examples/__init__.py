"""Worked examples on real data. Of the product, only the demo reads from here."""
