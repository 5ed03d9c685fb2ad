"""Runs generated code in this very process."""
