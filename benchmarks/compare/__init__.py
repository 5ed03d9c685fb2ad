"""Peers: the same work done with other tools, for a figure beside ours."""
