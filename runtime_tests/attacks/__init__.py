"""Attacks: what a run's files go through in the field, done on purpose at every system call.

`faults.c` is preloaded into a worker that has everything imported and forks a child for each case.
"""
