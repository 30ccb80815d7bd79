"""What needs no namespaces: arithmetic, readings, verdicts, the plan. Without root, in a second.

    PYTHONPATH=scripts python3 -m unittest discover --top-level-directory scripts scripts/benching
"""
