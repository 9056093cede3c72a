"""Executing runs, from prepared data to weights and scores, one at a time or as a grid."""
