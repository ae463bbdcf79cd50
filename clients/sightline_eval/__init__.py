"""Metrics, calibration and reports. Knows the client and the world; knows no trainer."""
