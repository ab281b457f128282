"""The parts of benchmarks/gpu.py: stages (processes and budgets), shapes, contenders, clocks, table."""
