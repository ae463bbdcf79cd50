"""The client library and the command line. Knows HTTP; knows no torch."""
