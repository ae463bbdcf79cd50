"""Trainers that align vision-language policies with the service's rewards. Knows the SDK, torch."""
