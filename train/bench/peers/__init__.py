"""rnnjax and what a user would pick instead, each contestant in a few lines.

A contestant is a function ``prepare(work) -> run``: it starts from the weights of the
work, and ``run(round_)`` does what the work asks of a round, as the contestant's own
users would, and returns numbers to compare: the losses before each update, say. Other
frameworks are imported inside ``prepare``, so that each is needed only where it runs.
"""
