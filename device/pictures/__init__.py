"""Folders of pictures as data sets: found, split, augmented, and what was left out."""
