"""RINEX 2.11, 3.0x and 4.0x: observation and navigation files, text to values and back."""
