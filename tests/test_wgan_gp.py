"""Gradient penalty: equations by hand, parity with scipy, the known mistakes, and that it learns."""
