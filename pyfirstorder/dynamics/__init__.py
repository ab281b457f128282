"""Instruments for the dynamics of first-order adversaries: trajectories of the ascent, and what their ends are.

Source: Deng, He, Huang, Su, "Towards Understanding the Dynamics of the First-Order Adversaries" (arXiv 2010.10650).
"""

from pyfirstorder.dynamics.stationarity import Stationarity, Verdict, stationarity
from pyfirstorder.dynamics.trajectories import Trajectories, trace

__all__ = ["Stationarity", "Trajectories", "Verdict", "stationarity", "trace"]
