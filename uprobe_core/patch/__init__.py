"""The target's text: slots, arenas, sites, verified writes."""
