"""YAML, read with positions, merged, validated."""
