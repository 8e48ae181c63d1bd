"""The reliability campaign: what RELIABILITY.md says comes from here.

    python -m tests.campaign --out RELIABILITY.md            # all of it
    python -m tests.campaign --only kills flips --quick

Each file holds one campaign, a function ``run(plan) -> list[Row]``.
"""
