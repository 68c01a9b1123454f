"""Mutation testing: change one expression or statement of the package at a time, and see whether a test notices."""
