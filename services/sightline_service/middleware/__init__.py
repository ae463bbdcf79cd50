"""What every request passes before its route, in plain ASGI. Knows HTTP; knows no scores."""
